"""The service as it is, but a device can be made to fail: one process's, from a moment on.

A GPU that met certain errors fails every later call of its process. A process whose id the file
`sick` of its machine's session holds meets such an error at its next model call.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from deployments import app
from deployments.config.settings import Settings
from deployments.stages.vocoder import VocoderReplica
from pipeline.stepaudio.health import StageHealth
from tests.storm.machine import SESSION, Machine

MARK = "sick"


def sicken(machine: Machine, pid: int) -> None:
    """From now on every model call of this process fails. pid: as this side knows it."""
    with open(f"/proc/{pid}/status") as lines:
        (own,) = (line.split()[-1] for line in lines if line.startswith("NSpid:"))
    (machine.session / MARK).write_text(own)


def build_app(args: Mapping[str, Any]) -> Application:
    """deployments.app's, with a vocoder that can fall sick."""
    app.VocoderReplica = FrailVocoder  # type: ignore[misc]
    return app.build_app(args)


class FrailVocoder(VocoderReplica):
    """The vocoder's replica; its device may be told to fail."""

    def __init__(self, settings: Settings, llms: Mapping[str, DeploymentHandle]) -> None:
        watch = StageHealth.watching

        @contextmanager
        def watching(health: StageHealth) -> Iterator[None]:
            watched: AbstractContextManager[None] = watch(health)
            with watched:
                if _is_sick():
                    raise torch.AcceleratorError(
                        "CUDA error: an illegal memory access was encountered"
                    )
                yield

        StageHealth.watching = watching  # type: ignore[method-assign]
        super().__init__(settings, llms)


def _is_sick() -> bool:
    try:
        return (SESSION / MARK).read_text() == str(os.getpid())
    except FileNotFoundError:
        return False
