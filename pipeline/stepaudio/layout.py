"""Paths within a checkpoint directory, and the directory that a model's name means.

A checkpoint directory holds the two official repositories side by side: Step-Audio-Tokenizer and
Step-Audio-EditX.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import CheckpointError

TOKENIZER_REPOSITORY = "Step-Audio-Tokenizer"
EDITX_REPOSITORIES = ("Step-Audio-EditX", "Step-Audio-EditX-AWQ-4bit")
PARAFORMER = "dengcunqin/speech_paraformer-large_asr_nat-zh-cantonese-en-16k-vocab8501-online"
VOCODER = "CosyVoice-300M-25Hz"
INDEX = "model.safetensors.index.json"
SINGLE_SHARD = "model.safetensors"
MANIFEST = "timbre.json"

TINY = "tiny"
DOWNLOADABLE = ("step-audio-editx", "step-audio-editx-awq")
HOME_VARIABLE = "TIMBRE_HOME"
PACKAGED_TINY = Path(__file__).resolve().parents[1] / "checkpoints" / TINY


@dataclass(frozen=True, slots=True)
class CheckpointLayout:
    """The named paths of a checkpoint directory."""

    root: Path
    """The directory."""
    tokenizer: Path
    """Its Step-Audio-Tokenizer."""
    editx: Path
    """Its Step-Audio-EditX or Step-Audio-EditX-AWQ-4bit."""

    @classmethod
    def at(cls, root: Path | str) -> CheckpointLayout:
        """The layout of a complete checkpoint.

        Raises CheckpointError that names every missing file.
        """
        layout = cls.expected(root)
        missing = layout.missing()
        if missing:
            names = ", ".join(missing)
            raise CheckpointError(
                f"{layout.root} is not a complete checkpoint; missing: {names}. "
                f"`timbre checkpoint verify {layout.root}` says more"
            )
        return layout

    @classmethod
    def expected(cls, root: Path | str, editx: str | None = None) -> CheckpointLayout:
        """The layout with no check of files.

        Without `editx`: the existing LLM repository, else the first of the two.
        """
        root = Path(root)
        if editx is None:
            present = [name for name in EDITX_REPOSITORIES if (root / name).is_dir()]
            editx = present[0] if present else EDITX_REPOSITORIES[0]
        return cls(root=root, tokenizer=root / TOKENIZER_REPOSITORY, editx=root / editx)

    @property
    def linguistic_codebook(self) -> Path:
        """float32 (1024, encoder width) npy: centroids of the vq02 codes."""
        return self.tokenizer / "linguistic_tokenizer.npy"

    @property
    def speech_tokenizer(self) -> Path:
        """ONNX: Whisper log-mel (1, 128, T) and length (1,) → vq06 codes."""
        return self.tokenizer / "speech_tokenizer_v1.onnx"

    @property
    def paraformer(self) -> Path:
        """The FunASR model directory."""
        return self.tokenizer / PARAFORMER

    @property
    def paraformer_weights(self) -> Path:
        return self.paraformer / "model.pt"

    @property
    def paraformer_cmvn(self) -> Path:
        """Kaldi nnet text: shift and scale of the 560 stacked features."""
        return self.paraformer / "am.mvn"

    @property
    def paraformer_config(self) -> Path:
        return self.paraformer / "config.yaml"

    @property
    def paraformer_tokens(self) -> Path:
        """Output tokens of the recogniser that the encoder is a part of; optional."""
        return self.paraformer / "tokens.json"

    @property
    def lm_config(self) -> Path:
        return self.editx / "config.json"

    @property
    def generation_config(self) -> Path:
        """Sampling defaults of the LLM; optional."""
        return self.editx / "generation_config.json"

    @property
    def text_tokenizer(self) -> Path:
        """The sentencepiece model."""
        return self.editx / "tokenizer.model"

    @property
    def lm_index(self) -> Path:
        """The shard of each LLM tensor; absent with a single shard."""
        return self.editx / INDEX

    @property
    def vocoder(self) -> Path:
        """The CosyVoice directory."""
        return self.editx / VOCODER

    @property
    def vocoder_config(self) -> Path:
        return self.vocoder / "cosyvoice.yaml"

    @property
    def flow_weights(self) -> Path:
        return self.vocoder / "flow.pt"

    @property
    def hift_weights(self) -> Path:
        return self.vocoder / "hift.pt"

    @property
    def speaker_encoder(self) -> Path:
        """ONNX: fbank (1, T, 80) → speaker embedding (1, 192)."""
        return self.vocoder / "campplus.onnx"

    @property
    def manifest(self) -> Path:
        """Sizes and digests that our own writer leaves; official checkpoints have none."""
        return self.root / MANIFEST

    @property
    def lm_shards(self) -> list[Path]:
        """The existing safetensors files, by name."""
        return sorted(self.editx.glob("model*.safetensors"))

    def required(self) -> list[Path]:
        """Every required file, the LLM's weights aside."""
        return [
            self.linguistic_codebook,
            self.speech_tokenizer,
            self.paraformer_weights,
            self.paraformer_cmvn,
            self.paraformer_config,
            self.lm_config,
            self.text_tokenizer,
            self.vocoder_config,
            self.flow_weights,
            self.hift_weights,
            self.speaker_encoder,
        ]

    def missing(self) -> list[str]:
        """Missing required files, as paths relative to the root."""
        missing = [self.relative(path) for path in self.required() if not path.is_file()]
        if not self.lm_shards:
            missing.append(
                self.relative(self.editx / SINGLE_SHARD) + " (or shards with their index)"
            )
        return missing

    def relative(self, path: Path) -> str:
        """The path below the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()


def home_directory() -> Path:
    """Where this user's checkpoints are: TIMBRE_HOME, else timbre in the cache directory."""
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "timbre"


def download_directory(name: str) -> Path:
    """Where `timbre checkpoint download NAME` puts a checkpoint unless told otherwise."""
    return home_directory() / "checkpoints" / name


def resolve_model(name_or_dir: str) -> Path:
    """The checkpoint directory that a `model` setting means.

    "tiny" is the one in the package; the names of downloadable checkpoints mean their downloads;
    anything else is a path.
    Raises CheckpointError when it is missing, with the command that fetches it.
    """
    if name_or_dir == TINY:
        if not PACKAGED_TINY.is_dir():
            raise CheckpointError("this installation lacks the tiny checkpoint: install it again")
        return PACKAGED_TINY
    if name_or_dir in DOWNLOADABLE:
        directory = download_directory(name_or_dir)
        if not directory.is_dir():
            raise CheckpointError(
                f"{name_or_dir} is not in {directory}: "
                f"run `timbre checkpoint download {name_or_dir}`"
            )
        return directory
    directory = Path(name_or_dir)
    if not directory.is_dir():
        names = ", ".join((TINY, *DOWNLOADABLE))
        raise CheckpointError(
            f"no checkpoint directory at {name_or_dir!r}; known names are {names}"
        )
    return directory
