"""Every mutation can still be made, and names tests that exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import ROOT
from tests.mutations.guard import Guard
from tests.mutations.page import END, PAGE, renewed
from tests.mutations.run import TESTS
from tests.mutations.table import BY_NAME, GUARDS
from tests.mutations.threats import THREATS
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


def test_every_guard_stands_against_something_and_nothing_else_does():
    named = [name for threat in THREATS for name in threat.guards]
    assert sorted(named) == sorted(BY_NAME)


def test_the_page_shows_the_tables():
    page = PAGE.read_text(encoding="utf-8")
    assert page == renewed(page), "python -m tests.mutations.page renews it"


def test_tests_that_the_page_names_besides_exist():
    prose = PAGE.read_text(encoding="utf-8").partition(END)[2]
    named = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", prose)
    assert named
    for path, name in named:
        assert name in names_in(path), f"{path}::{name}"
