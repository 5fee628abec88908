"""Ray asks for a token unless it is told not to, and the token is nobody else's to read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from deployments.local.ray_token import token_variables
from pipeline.errors import ConfigError, SetupError

pytestmark = pytest.mark.unit


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    directory.mkdir()
    monkeypatch.setenv("HOME", str(directory))
    return directory


@pytest.mark.parametrize("environment", [{}, {"RAY_AUTH_MODE": ""}, {"RAY_AUTH_MODE": "Token"}])
def test_unless_told_ray_asks_for_the_token_of_rays_own_commands(home, tmp_path, environment):
    known_umask = os.umask(0o022)
    try:
        variables = token_variables(environment, tmp_path)
    finally:
        os.umask(known_umask)
    path = home / ".ray" / "auth_token"
    assert variables == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    assert len(path.read_text()) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_token_that_is_there_is_kept(home, tmp_path):
    first = token_variables({}, tmp_path)
    token = Path(first["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert token_variables({}, tmp_path) == first
    assert Path(first["RAY_AUTH_TOKEN_PATH"]).read_text() == token


def test_an_empty_file_is_no_token(home, tmp_path):
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(" \n")
    assert len(Path(token_variables({}, tmp_path)["RAY_AUTH_TOKEN_PATH"]).read_text()) == 64


@pytest.mark.parametrize("mode", ["disabled", "DISABLED"])
def test_off_is_off_and_makes_no_token(home, tmp_path, mode):
    environment = {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    assert token_variables(environment, tmp_path) == {"RAY_AUTH_MODE": "disabled"}
    assert list(tmp_path.rglob("*token*")) == []


@pytest.mark.parametrize("mode", ["on", "off", "tokens", "true", "k8s"])
def test_a_mode_that_ray_would_take_for_off_is_refused(home, tmp_path, mode):
    with pytest.raises(ConfigError, match=f"RAY_AUTH_MODE is '{mode}'; Ray knows token and dis"):
        token_variables({"RAY_AUTH_MODE": mode}, tmp_path)


def test_a_token_of_the_environment_is_enough(home, tmp_path):
    assert token_variables({"RAY_AUTH_TOKEN": "ab" * 16}, tmp_path) == {"RAY_AUTH_MODE": "token"}
    assert list(home.iterdir()) == []


def test_a_file_that_the_user_names_is_used_and_made(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variables = token_variables({"RAY_AUTH_TOKEN_PATH": "kept/token"}, tmp_path / "state")
    assert variables["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "kept" / "token")
    assert len((tmp_path / "kept" / "token").read_text()) == 64
    assert list(home.iterdir()) == []


def test_a_file_that_the_user_names_and_that_cannot_be_is_one_sentence(home, tmp_path):
    with pytest.raises(SetupError, match=r"RAY_AUTH_TOKEN_PATH is .*home, and .*Is a directory"):
        token_variables({"RAY_AUTH_TOKEN_PATH": str(home)}, tmp_path)


@pytest.mark.parametrize("broken", ["a file", "missing"])
def test_without_a_home_the_token_is_kept_beside_the_state(tmp_path, monkeypatch, broken):
    (tmp_path / "a file").write_text("")
    homes = {"a file": str(tmp_path / "a file"), "missing": "/proc/nobody"}
    monkeypatch.setenv("HOME", homes[broken])
    variables = token_variables({}, tmp_path / "state")
    assert variables["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "state" / "ray_auth_token")
    assert len((tmp_path / "state" / "ray_auth_token").read_text()) == 64
