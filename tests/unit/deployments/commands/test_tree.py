"""What all commands have in common: errors in a sentence, --json, codes, completion, a page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import typer.main
from typer.core import TyperGroup
from typer.testing import CliRunner

from cache_store import cli as cache_cli
from deployments.cli import app
from deployments.client.load import percentile
from load_tests.bench import report
from pipeline import errors
from pipeline.cli import MEANS, Exit, exit_of, one_line_errors
from tests.command_page import PAGE, page
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
# Modules that `timbre --help`, or a completion, must not wait for.
HEAVY = {"numpy", "torch", "ray", "httpx", "pyarrow", "pydantic", "fastapi", "av", "yaml", "psutil"}


def commands(group: TyperGroup, *names: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, *names, name)
        else:
            yield " ".join([*names, name]), command


ROOT_GROUP = typer.main.get_command(app)
assert isinstance(ROOT_GROUP, TyperGroup)
ALL = dict(commands(ROOT_GROUP))


def test_what_was_asked_for_is_there():
    first = {name.split()[0] for name in ALL}
    wanted = "say edit voices jobs cache checkpoint serve up down status logs doctor bench verify"
    assert {*wanted.split(), "keys", "lint", "demo", "parity"} <= first


@pytest.mark.parametrize("name", ALL)
def test_every_command_speaks_json(name: str):
    assert "--json" in {option for one in ALL[name].params for option in one.opts}


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_option_says_what_it_is(name: str):
    assert ALL[name].help
    silent = [one.name for one in ALL[name].params if not getattr(one, "help", None)]
    assert not silent


def test_every_code_is_in_the_table():
    assert set(MEANS) == set(Exit)
    assert cache_cli.EXIT_AWAY == Exit.AWAY


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UnknownVoiceError("x"), Exit.WRONG),
        (errors.ConfigError("x"), Exit.WRONG),
        (errors.NoKeyError("x"), Exit.KEY),
        (errors.ForbiddenError("x"), Exit.KEY),
        (errors.QuotaSpentError("x"), Exit.FULL),
        (errors.StageTimeoutError("x"), Exit.AWAY),
        (FileNotFoundError(2, "No such file or directory", "x.wav"), Exit.WRONG),
        (KeyError("x"), Exit.DEFECT),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
    ],
)
def test_an_error_is_a_sentence_and_a_code(error: BaseException, code: Exit):
    failing = typer.Typer(pretty_exceptions_enable=False)

    @failing.command()
    @one_line_errors
    def fail() -> None:
        raise error

    told = CliRunner().invoke(failing, [])
    assert told.exit_code == code
    assert told.stdout == ""
    assert "Traceback" not in told.stderr
    assert told.stderr.count("\n") == (0 if code is Exit.INTERRUPTED else 1)
    if isinstance(error, errors.TimbreError):
        assert exit_of(error) is code


def test_the_page_is_as_the_commands_are():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.command_page"


def python(code: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", code, *words]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_help_waits_for_no_library():
    code = (
        "import sys\nfrom deployments.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        f"sys.exit(' '.join(sorted({HEAVY!r} & set(sys.modules))) or 0)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "voices" in done.stdout


def test_a_shell_completes_commands_and_options():
    code = "from deployments.cli import app; app(prog_name='timbre')"
    asked = {"_TIMBRE_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    below = python(code, COMP_WORDS="timbre jobs su", **asked)
    assert below.stdout.split() == ["submit"], below.stderr
    options = python(code, COMP_WORDS="timbre say --vo", **asked)
    assert options.stdout.split() == ["--voice", "--voice-text"], options.stderr
    voices = python(code, COMP_WORDS="timbre say --voice b", **(asked | {"COMP_CWORD": "3"}))
    assert voices.stdout.split() == ["bruno"], voices.stderr


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_a_share_is_what_the_load_tests_mean_by_it(n: int, share: float):
    values = [float(value * 7 % n) for value in range(n)]
    assert percentile(values, share) == report.percentile(values, share)
