"""A device that is lost for good, told from what may pass next time; workers that are gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.contracts import ReferenceClip
from pipeline.errors import SampleRateError, StageError, StageUnavailableError
from pipeline.stepaudio import health
from pipeline.stepaudio.health import StageHealth, is_device_lost
from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
from pipeline.stepaudio.vocoder.decode_worker import DecodeWorker, Job
from tests.encoder_files import write_encoder_files
from tests.waiting import GIVE_UP_S, wait_until

pytestmark = pytest.mark.unit

LOST = [
    "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: unspecified launch failure",
    "CUDA error: uncorrectable ECC error encountered",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`",
    "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was encountered",
    "[ONNXRuntimeError] : 6 : CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED",
]
PASSES = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 44.40 GiB",
    "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "[ONNXRuntimeError] : 6 : BFCArena::AllocateRawInternal Failed to allocate memory",
    "CUDA failure 2: out of memory ; GPU=0",
    "CUDA error: invalid configuration argument",
    "mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)",
    "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input",
]


@pytest.mark.parametrize("text", LOST)
def test_a_lost_device(text: str) -> None:
    assert is_device_lost(RuntimeError(text))
    wrapped = StageError("the vocoder failed")
    wrapped.__cause__ = RuntimeError(text)
    assert is_device_lost(wrapped)


@pytest.mark.parametrize("text", PASSES)
def test_what_may_pass_next_time(text: str) -> None:
    assert not is_device_lost(RuntimeError(text))


def test_torchs_own_classes() -> None:
    assert is_device_lost(torch.AcceleratorError("the device went away"))
    assert not is_device_lost(torch.AcceleratorError("CUDA error: out of memory"))
    assert not is_device_lost(torch.OutOfMemoryError("CUDA out of memory."))


def test_one_sticky_error_is_enough_and_for_good() -> None:
    stage = StageHealth("vocoder")
    for text in PASSES:
        with pytest.raises(RuntimeError), stage.watching():
            raise RuntimeError(text)
        stage.check()
    with pytest.raises(RuntimeError), stage.watching():
        raise RuntimeError(LOST[0])
    with stage.watching():
        pass
    with pytest.raises(StageUnavailableError, match="vocoder has lost its device") as caught:
        stage.check()
    assert "CUDA" not in caught.value.message


def test_a_call_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = StageHealth("vocoder")
    with stage.watching():
        stage.check()
        late_s = time.monotonic() + health.MAX_CALL_S + 1
        monkeypatch.setattr(time, "monotonic", lambda: late_s)
        with pytest.raises(StageError, match="not finished a call for 120 s"):
            stage.check()
    stage.check()


def worker(begin: Callable[[], None] = lambda: None) -> DecodeWorker[str]:
    return DecodeWorker[str](lambda members: ["" for _ in members], 1, begin)


def fail(text: str) -> str:
    raise RuntimeError(text)


def test_a_decoder_that_lost_its_device_says_so() -> None:
    decoder = worker()
    for text in (PASSES[0], LOST[0]):
        decoder.check_health()
        with pytest.raises(RuntimeError):
            decoder.submit(Job(lambda text=text: fail(text))).result(GIVE_UP_S)
    with pytest.raises(StageUnavailableError, match="lost its device"):
        decoder.check_health()
    decoder.close()


def test_a_busy_decoder_is_well() -> None:
    decoder, go = worker(), threading.Event()
    held = decoder.submit(Job(lambda: str(go.wait(GIVE_UP_S))))
    decoder.check_health()
    go.set()
    assert held.result(GIVE_UP_S) == "True"
    decoder.close()


def cannot_begin() -> None:
    raise OSError("no threads left")


def test_a_decoder_whose_thread_is_gone_says_so() -> None:
    closed = worker()
    closed.close()
    broken = worker(cannot_begin)
    broken.submit(Job(lambda: ""))

    def is_ill(one: DecodeWorker[str]) -> bool:
        try:
            one.check_health()
        except StageUnavailableError as error:
            return "worker is not running" in error.message
        return False

    wait_until(lambda: is_ill(closed))
    wait_until(lambda: is_ill(broken))


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_encoder_files(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def encoder(directories: tuple[Path, Path]) -> Iterator[StepVoiceEncoder]:
    made = StepVoiceEncoder(*directories, threads=1)
    yield made
    made.close()


def clip() -> ReferenceClip:
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    return ReferenceClip(noise * 0.1, 16_000, "0" * 64)


@pytest.mark.parametrize(
    "part", ["_semantic.encode", "_speaker.encode", "_linguistic.encode_frames"]
)
def test_an_encoder_that_lost_its_device_says_so(
    encoder: StepVoiceEncoder, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    model, method = part.split(".")
    for text in (PASSES[3], LOST[6]):
        encoder.check_health()
        monkeypatch.setattr(getattr(encoder, model), method, lambda *_, text=text: fail(text))
        with pytest.raises(RuntimeError):
            encoder.encode_blocking(clip())
    with pytest.raises(StageUnavailableError, match="tokenizer has lost its device"):
        encoder.check_health()


async def test_callers_mistakes_leave_an_encoder_well(encoder: StepVoiceEncoder) -> None:
    for _ in range(5):
        with pytest.raises(SampleRateError):
            await encoder.encode(ReferenceClip(clip().samples, 7_000, "0" * 64))
    encoder.check_health()


def test_an_encoder_whose_threads_are_gone_says_so(directories: tuple[Path, Path]) -> None:
    encoder = StepVoiceEncoder(*directories, threads=1)
    encoder.close()
    with pytest.raises(StageUnavailableError, match="worker is not running"):
        encoder.check_health()
