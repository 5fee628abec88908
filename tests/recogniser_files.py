"""Recognisers as small as can be, untrained, in FunASR's layout; and a look at what they say.

`python -m tests.recogniser_files report DIRECTORY` writes and opens them, and prints what came of
it as JSON; `write` only writes one. In a process of its own, for the package takes seconds to
import and sets up logging.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pipeline.audio.decode import decode_clip
from pipeline.contracts import ReferenceClip
from pipeline.errors import CheckpointError
from pipeline.stepaudio.asr.recogniser import Recogniser
from pipeline.stepaudio.layout import PACKAGED_TINY, CheckpointLayout
from pipeline.voice_list import load_voices
from tests.conftest import ROOT

WIDTH = 16
SMALL = {"attention_heads": 2, "linear_units": 32, "num_blocks": 2, "kernel_size": 11}
LENGTHS = (200, 960, 9_600, 9_601, 30 * 16_000)  # samples, around the borders of chunks


def write_streaming_paraformer(directory: Path) -> Path:
    """As the released tokenizer's own: config.yaml, tokens.json and am.mvn around the weights."""
    source = CheckpointLayout.at(PACKAGED_TINY)
    config = yaml.safe_load(source.paraformer_config.read_text(encoding="utf-8"))
    config["encoder_conf"] |= {"output_size": WIDTH, **SMALL}
    return _written(directory, config, source)


def write_offline_paraformer(directory: Path) -> Path:
    """As `iic/speech_paraformer-large…`, which hears a clip as a whole."""
    source = CheckpointLayout.at(PACKAGED_TINY)
    config = yaml.safe_load(source.paraformer_config.read_text(encoding="utf-8"))
    config |= {"model": "Paraformer", "encoder": "SANMEncoder", "frontend": "WavFrontend"}
    config["encoder_conf"] = {
        "output_size": WIDTH,
        **SMALL,
        "input_layer": "pe",
        "sanm_shfit": 0,
        "selfattention_layer_type": "sanm",
    }
    return _written(directory, config, source)


def _written(directory: Path, config: dict[str, Any], source: CheckpointLayout) -> Path:
    config |= {"decoder": "ParaformerSANMDecoder"}
    config["decoder_conf"] = {**SMALL, "att_layer_num": 2, "sanm_shfit": 5}
    config["predictor_conf"]["idim"] = WIDTH
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for path in (source.paraformer_tokens, source.paraformer_cmvn):
        shutil.copy(path, directory / path.name)
    files = {
        "tokenizer_conf": {"token_list": str(directory / "tokens.json")},
        "frontend_conf": {"cmvn_file": str(directory / "am.mvn")},
    }
    whole = {**config, **{name: {**config[name], **more} for name, more in files.items()}}
    torch.manual_seed(0)
    auto_model = importlib.import_module("funasr.auto.auto_model").AutoModel
    model, _ = auto_model.build_model(**whole, device="cpu", ncpu=1)
    torch.save(model.state_dict(), directory / "model.pt")
    return directory


def refusal(directory: Path) -> str:
    """Why it cannot be opened; empty when it can."""
    try:
        Recogniser(directory)
    except CheckpointError as error:
        return error.message
    return ""


def report(directory: Path) -> dict[str, Any]:
    """What recognisers in this directory do."""
    clip = decode_clip(load_voices()["bruno"].path.read_bytes())
    streaming = write_streaming_paraformer(directory / "streaming")
    offline = write_offline_paraformer(directory / "offline")
    found: dict[str, Any] = {}
    handlers = list(logging.getLogger().handlers)
    for name, place in (("streaming", streaming), ("offline", offline)):
        recogniser = Recogniser(place)
        found[name] = [asyncio.run(recogniser.transcribe(clip)) for _ in range(2)]
        found[f"{name} fingerprint"] = recogniser.fingerprint
    found["handlers left"] = logging.getLogger().handlers == handlers
    recogniser, rng = Recogniser(streaming), np.random.default_rng(0)
    noises = [rng.standard_normal(n).astype(np.float32) * 0.1 for n in LENGTHS]
    clips = [ReferenceClip(noise, 16_000, "0" * 64) for noise in noises]
    found["lengths"] = [recogniser.transcribe_blocking(one) for one in clips]
    found["after others"] = recogniser.transcribe_blocking(clip)
    found["encoder alone"] = refusal(CheckpointLayout.at(PACKAGED_TINY).paraformer)
    other = shutil.copytree(streaming, directory / "other")
    (other / "tokens.json").write_text(json.dumps(["<blank>", "<s>", "</s>", "a", "<unk>"]))
    found["another size"] = refusal(other)
    (other / "model.pt").unlink()
    found["no weights"] = refusal(other)
    return found


def _no_network(*_: object) -> None:
    raise OSError("the network was used")


def in_own_process(what: str, directory: Path) -> str:
    """What this module prints last when it is run."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.recogniser_files", what, str(directory)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return done.stdout.splitlines()[-1]


if __name__ == "__main__":
    socket.socket.connect = _no_network  # type: ignore[method-assign]
    place = Path(sys.argv[2])
    told = report(place) if sys.argv[1] == "report" else str(write_streaming_paraformer(place))
    sys.stdout.write(json.dumps(told) + "\n")
