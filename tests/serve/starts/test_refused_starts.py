"""What the user's own `serve run CONFIG` shows of a config that cannot run: one sentence, last.

For what the cluster lacks and for a mistake; tests/unit/deployments/test_app.py has the others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from deployments.local.process import end_session, spawn
from pipeline.errors import SetupError
from tests.cache_helpers import free_port
from tests.conftest import ROOT
from tests.serve.services import ENVIRONMENT, START_TIMEOUT_S, running, write_config
from tests.waiting import wait_until

pytestmark = pytest.mark.serve
REFUSAL = "timbre cannot start: "
QUIET_S = 3.0  # in which Serve, were it to try again, would have said so

Document = dict[str, Any]


def no_gpu(document: Document) -> None:
    """As shipped."""


def unknown_key_of_a_deployment(document: Document) -> None:
    document["applications"][0]["deployments"][0]["max_ongoing_request"] = 8


@dataclass(frozen=True, slots=True)
class Refused:
    """A config that cannot run. says: the end of its terminal."""

    config: str
    change: Callable[[Document], None]
    says: str


NO_GPU = Refused(
    "serve_config.yaml", no_gpu, "there is no GPU here, .*serve run serve_config.cpu.yaml, or"
)
MISTAKE = Refused(
    "serve_config.cpu.yaml",
    unknown_key_of_a_deployment,
    r"deployments\[0\].max_ongoing_request: unknown key; valid here: .*max_queued",
)


@pytest.fixture(scope="module")
def as_shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the terminal of the config that needs a GPU shows: another start goes on beside it."""
    with terminal(tmp_path_factory.mktemp("terminal"), NO_GPU) as log:
        yield log


@contextmanager
def terminal(directory: Path, one: Refused) -> Iterator[Path]:
    """`serve run` of a config: what it shows."""
    document = yaml.safe_load((ROOT / one.config).read_text())
    document["http_options"] |= {"host": "127.0.0.1", "port": free_port()}
    config = directory / one.config
    document["applications"][0]["args"]["config_file"] = str(config)
    one.change(document)
    config.write_text(yaml.safe_dump(document))
    log = config.with_suffix(".log")
    process = spawn(config, log, ENVIRONMENT, n_cpus=2)
    started_unix_s = psutil.Process(process.pid).create_time()
    try:
        yield log
    finally:
        end_session(process.pid, started_unix_s, drain_s=0.0)
        process.wait()


def require_refused(log: Path, one: Refused) -> None:
    """One sentence, last, and no more of it in the time to try again."""
    wait_until(lambda: REFUSAL in log.read_text(), START_TIMEOUT_S)
    time.sleep(QUIET_S)
    said = log.read_text()
    assert "Traceback" not in said
    assert said.count(REFUSAL) == 1
    assert re.search(f"{REFUSAL}.*{one.says}", said.splitlines()[-1])


@pytest.mark.usefixtures(as_shipped.__name__)  # which starts meanwhile
def test_a_gpu_that_is_not_there_is_a_message_within_seconds(tmp_path: Path):
    config = write_config(tmp_path)
    raw = yaml.safe_load(config.read_text())
    application = raw["applications"][0]
    application["args"]["llm"].update(device="cuda", gpu_memory_gib=4)
    for deployment in application["deployments"]:
        if deployment["name"] == "LLM":
            deployment["ray_actor_options"]["num_gpus"] = 0.5
    config.write_text(yaml.safe_dump(raw))
    began_s = time.monotonic()
    said = r"did not start: there is no GPU here, and .* asks for 0.5 \(LLM 1 × 0.5\); without one"
    with pytest.raises(SetupError, match=said):
        with running(tmp_path, config):
            pass
    assert time.monotonic() - began_s < START_TIMEOUT_S / 2, "it did not wait for the end of it"


def test_the_terminal_ends_with_one_sentence(as_shipped: Path) -> None:
    require_refused(as_shipped, NO_GPU)


@pytest.mark.exhaustive  # the sentence: tests/unit/deployments/test_app.py; its way: as above
def test_the_terminal_ends_with_one_sentence_about_a_mistake(tmp_path: Path) -> None:
    with terminal(tmp_path, MISTAKE) as log:
        require_refused(log, MISTAKE)
