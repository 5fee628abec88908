"""The checkpoint's sentencepiece model.

Sounds, the prompt's fixed phrases as one piece each, and the audio pieces.

Pieces are written down, and their order and scores follow from the table of
sounds and the prompts.
"""

from __future__ import annotations

import re
from typing import Any

from pipeline.stepaudio.llm import prompt
from pipeline.stepaudio.tokens import AUDIO_TOKENS
from pipeline.text.sounds.symbols import BORDER, SYMBOLS

SPACE = "▁"  # how sentencepiece writes a space
BYTES = 256
CONTROLS = ("<s>", "</s>")
USER_DEFINED = ("<|EOT|>", "<|BOT|>")
CHARACTERS = "".join(chr(code) for code in range(0x21, 0x7F))
PHRASE_SCORE, PHONE_SCORE, CHARACTER_SCORE = -1.0, -2.0, -9.0
ROLES = ("system\n", "human\n", "assistant\n")
SPEAKER_PREFIX = "clone_"


def tokenizer_model() -> bytes:
    """The serialized model.

    Ids: 0 <unk>, 1 <s>, 2 </s>, 3 <|EOT|>, 4 <|BOT|>, 256 bytes, text, then the audio pieces.
    """
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2  # generated classes, unknown to type checkers
    kind = proto.ModelProto.SentencePiece
    model = proto.ModelProto()
    model.pieces.add(piece="<unk>", score=0.0, type=kind.UNKNOWN)
    for piece in CONTROLS:
        model.pieces.add(piece=piece, score=0.0, type=kind.CONTROL)
    for piece in USER_DEFINED:
        model.pieces.add(piece=piece, score=0.0, type=kind.USER_DEFINED)
    for byte in range(BYTES):
        model.pieces.add(piece=f"<0x{byte:02X}>", score=0.0, type=kind.BYTE)
    for piece, score in text_pieces().items():
        model.pieces.add(piece=piece, score=score, type=kind.NORMAL)
    for code in range(AUDIO_TOKENS):
        model.pieces.add(piece=f"<audio_{code}>", score=0.0, type=kind.USER_DEFINED)

    trainer = model.trainer_spec
    trainer.model_type = proto.TrainerSpec.UNIGRAM
    trainer.vocab_size = len(model.pieces)
    trainer.byte_fallback = True
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 0, 1, 2, -1
    normalizer = model.normalizer_spec
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = True
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True
    return model.SerializeToString(deterministic=True)


def text_pieces() -> dict[str, float]:
    """Piece → score: a phrase beats its letters, a sound of two characters beats both."""
    pieces = dict.fromkeys(phrases(), PHRASE_SCORE)
    sounds = (symbol for symbol in SYMBOLS if symbol != BORDER)
    pieces |= dict.fromkeys((*sounds, SPACE, "\n"), PHONE_SCORE)
    for character in CHARACTERS + "".join(SYMBOLS).replace(BORDER, ""):
        pieces.setdefault(character, CHARACTER_SCORE)
    return pieces


def phrases() -> list[str]:
    """What every clone prompt holds besides texts, speaker and tokens.

    As sentencepiece writes it.
    """
    template = "system\n" + prompt._CLONE_SYSTEM.replace("{speaker}", SPEAKER_PREFIX + "{speaker}")
    fixed = re.split(r"\{\w+\}", template)
    fixed = [SPACE + fixed[0], *fixed[1:], SPACE + "\n", *(SPACE + role for role in ROLES)]
    return [phrase.replace(" ", SPACE) for phrase in fixed]
