"""The small files beside the weights that the released loaders read: FunASR's and transformers'.

Our own code reads generation_config.json alone.
"""

from __future__ import annotations

import json
from typing import Any

from pipeline.contracts import RELEASED_WARPING
from pipeline.stepaudio.layout import CheckpointLayout

PAD_ID, BOS_ID, EOS_ID = 0, 1, 3
MAX_LENGTH = 8192
# Output tokens of a recogniser on top of the encoder: FunASR takes its output size from them.
_FUNASR_TOKENS = ("<blank>", "<s>", "</s>", *map(chr, range(0x21, 0x7F)), "<unk>")
_NEVER = -1e4  # score of pieces that never encode text: bytes and controls
_SPACE = "▁"  # how sentencepiece writes a space


def write_loader_files(layout: CheckpointLayout) -> None:
    """Write all of them; the directory's `tokenizer.model` must exist."""
    model = layout.text_tokenizer.read_bytes()
    texts = {
        layout.paraformer / "configuration.json": _json(funasr_configuration()),
        layout.paraformer / "tokens.json": _json(list(_FUNASR_TOKENS)),
        layout.generation_config: _json(generation_config()),
        layout.editx / "tokenizer_config.json": _json(tokenizer_config()),
        layout.editx / "tokenizer.json": fast_tokenizer(model) + "\n",
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")


def funasr_configuration() -> dict[str, Any]:
    """Files that FunASR's AutoModel and ModelScope look for in a model directory."""
    return {
        "framework": "pytorch",
        "task": "auto-speech-recognition",
        "model": {"type": "funasr"},
        "pipeline": {"type": "funasr-pipeline"},
        "file_path_metas": {
            "init_param": "model.pt",
            "config": "config.yaml",
            "tokenizer_conf": {"token_list": "tokens.json"},
            "frontend_conf": {"cmvn_file": "am.mvn"},
        },
    }


def generation_config() -> dict[str, Any]:
    """Sampling defaults of transformers and ours, equal to the released code's."""
    return {
        "do_sample": True,
        "temperature": RELEASED_WARPING.temperature,
        "top_p": RELEASED_WARPING.top_p,
        "top_k": RELEASED_WARPING.top_k,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "pad_token_id": PAD_ID,
        "max_length": MAX_LENGTH,
    }


def tokenizer_config() -> dict[str, Any]:
    """For AutoTokenizer; it finds the pieces in tokenizer.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "<|EOT|>",
        "unk_token": "<unk>",
        "pad_token": "<unk>",
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_LENGTH,
    }


def fast_tokenizer(model: bytes) -> str:
    """A sentencepiece UNIGRAM model with byte fallback as tokenizer.json: the same ids.

    The converters of transformers go by file names and mistake the model for BPE.
    """
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import Tokenizer, decoders, models, normalizers

    proto: Any = sentencepiece_model_pb2  # generated classes, unknown to type checkers
    kinds = proto.ModelProto.SentencePiece
    read = (kinds.NORMAL, kinds.USER_DEFINED)
    pieces = proto.ModelProto.FromString(model).pieces
    vocabulary = [(p.piece, p.score if p.type in read else _NEVER) for p in pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(  # type: ignore[assignment]  # stubs lack the setter
        [normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]
    )
    tokenizer.decoder = decoders.Sequence(  # type: ignore[assignment]
        [
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Replace(_SPACE, " "),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer.to_str()


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
