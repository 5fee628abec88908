"""`timbre keys …`, on a store of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cache_store.settings import CacheSettings
from deployments.cli import app
from deployments.keys.book import KeyBook
from deployments.keys.desk import KeyDesk
from deployments.voices.shelf import Shelf
from pipeline.errors import UnauthenticatedError

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    args = {"cache": {"url": str(tmp_path / "store")}}
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"applications": [{"args": args, "deployments": []}]}))
    return path


def run(config: Path, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["keys", *words, "--config", str(config)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def made(config: Path, *more: str) -> dict[str, str]:
    words = ("create", "--tenant", "museum", "--scope", "speak", "--scope", "jobs", "--json")
    return json.loads(run(config, *words, *more))


async def counts(config: Path, key: str) -> bool:
    shelf = Shelf.open(CacheSettings(url=str(config.parent / "store")))
    assert shelf is not None
    try:
        await KeyBook(KeyDesk(shelf, 100), 60.0).caller(key)
    except UnauthenticatedError:
        return False
    finally:
        shelf.close()
    return True


def test_a_key_is_printed_alone_and_once(config):
    key = run(config, "create", "--tenant", "museum", "--scope", "speak").removesuffix("\n")
    assert key.startswith("tk_")
    assert "\n" not in key
    assert key.rpartition("_")[2] not in run(config, "list") + run(config, "list", "--json")


def test_keys_are_listed(config):
    key = made(config, "--label", "audio guide", "--expires", "90d")
    assert key["expires_at"] == key["created_at"] + 90 * 86_400
    made(config, "--expires", "never")
    text = run(config, "list")
    assert f"{key['id']}  active   museum  jobs,speak, until 20" in text
    assert "audio guide" in text
    assert len(json.loads(run(config, "list", "--tenant", "museum", "--json"))) == 2
    assert run(config, "list", "--tenant", "palace") == ""


def test_rotating_and_revoking(config):
    def works(key: str) -> bool:
        return asyncio.run(counts(config, key))

    key = made(config)
    new = json.loads(run(config, "rotate", key["id"], "--keep-old", "1h", "--json"))
    assert works(key["key"])
    assert works(new["key"])
    run(config, "revoke", key["id"], "--old-secret")
    assert not works(key["key"])
    assert works(new["key"])
    assert "is refused from now on" in run(config, "revoke", key["id"])
    assert not works(new["key"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("create", "--tenant", "a/b", "--scope", "speak"), "tenant 'a/b' must be"),
        (("create", "--tenant", "a", "--scope", "fly"), "fly"),
        (("create", "--tenant", "a", "--scope", "speak", "--expires", "soon"), "must be as 90d"),
        (("create", "--tenant", "a", "--scope", "speak", "--expires", "0s"), "expires_in_s"),
        (("rotate", "0" * 16), "no key has the id"),
        (("revoke", "../.."), "no key has the id"),
    ],
)
def test_a_mistake_is_one_line(config, words, says):
    assert says in run(config, *words, code=2)


def test_a_config_that_keeps_nothing(tmp_path):
    path = tmp_path / "config.yaml"
    document = {"applications": [{"args": {"cache": {"url": "none"}}, "deployments": []}]}
    path.write_text(json.dumps(document))
    assert "keeps nothing" in run(path, "list", code=2)
