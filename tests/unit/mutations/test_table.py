"""Every mutation can still be made, and names tests that exist."""

from __future__ import annotations

import ast

import pytest

from tests.conftest import ROOT
from tests.mutations.guard import Guard
from tests.mutations.run import TESTS
from tests.mutations.table import BY_NAME, GUARDS
from tests.named_tests import names_in

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_stands_once_in_its_file_and_can_be_taken_out(guard: Guard):
    whole = (ROOT / guard.file).read_text(encoding="utf-8")
    assert whole.count(guard.old) == 1, "its code was changed: change the mutation as well"
    ast.parse(whole.replace(guard.old, guard.new))


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guards_tests_exist(guard: Guard):
    assert guard.tests
    for test in guard.tests:
        path, _, name = test.partition("::")
        assert name in names_in(f"{TESTS}/{path}"), test


def test_guards_have_names_of_their_own():
    assert len(BY_NAME) == len(GUARDS)
