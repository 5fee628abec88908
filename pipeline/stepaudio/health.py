# pyright: basic
"""Health of a stage's device and worker, judged by the errors of its model calls.

After certain errors a GPU fails every later call of the process: only a new process recovers.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

import torch

from pipeline.errors import StageError, StageUnavailableError

logger = logging.getLogger(__name__)

MAX_CALL_S = 120.0  # a model call longer than this is a hang

# Messages of device failures in torch and ONNX Runtime, which may be plain RuntimeErrors.
_OF_A_DEVICE = (
    "cuda error",
    "cuda failure",
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "cudnn error",
    "cudnn failure",
    "cudnn_status_execution_failed",
    "cudnn_status_internal_error",
    "cublas_status",
    "cublas failure",
    "cufft error",
    "cusolver error",
)
# Those that affect only the call that met them.
_OF_ONE_CALL = (
    "out of memory",
    "alloc_failed",
    "failed to allocate",
    "invalid argument",
    "invalid configuration",
    "invalid_value",
    "bad_param",
    "not supported",
    "not_supported",
    "stream is capturing",
)


def is_device_lost(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, means that this process has lost its device.

    Out of memory does not, nor does a call that the device refused.
    """
    while error is not None:
        text = str(error).lower()
        is_of_device = any(words in text for words in _OF_A_DEVICE)
        is_of_device = is_of_device or isinstance(error, torch.AcceleratorError)
        if is_of_device and not any(words in text for words in _OF_ONE_CALL):
            return True
        error = error.__cause__ or error.__context__
    return False


class StageHealth:
    """The outcome of a stage's model calls. Safe from any thread. stage: its name in messages."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._lost = ""
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._running: dict[int, float] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around a model call: records its duration and its error, which is re-raised."""
        number = next(self._numbers)
        with self._lock:
            self._running[number] = time.monotonic()
        try:
            yield
        except Exception as error:
            self.saw(error)
            raise
        finally:
            with self._lock:
                del self._running[number]

    def saw(self, error: BaseException) -> None:
        """Record a model call's error; a sticky device error makes the stage unhealthy."""
        if self._lost or not is_device_lost(error):
            return
        self._lost = str(error).strip().partition("\n")[0]
        logger.error("the %s has lost its device", self._stage, exc_info=error)

    def check(self) -> None:
        """Raises StageUnavailableError when the device is lost, StageError when a call hangs."""
        if self._lost:
            raise StageUnavailableError(f"the {self._stage} has lost its device", detail=self._lost)
        with self._lock:
            oldest_s = min(self._running.values(), default=None)
        if oldest_s is not None and time.monotonic() - oldest_s > MAX_CALL_S:
            raise StageError(f"the {self._stage} has not finished a call for {MAX_CALL_S:.0f} s")


def check_pool(pool: Executor, stage: str) -> None:
    """Raises StageUnavailableError when a pool takes no more work: its threads are gone."""
    try:
        pool.submit(_nothing)
    except RuntimeError as error:  # shut down, or a thread that could not start
        raise StageUnavailableError(f"the {stage}'s worker is not running") from error


def _nothing() -> None:
    """Work that any living thread can do."""
