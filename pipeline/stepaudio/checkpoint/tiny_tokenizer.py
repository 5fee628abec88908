"""The tiny checkpoint's sentencepiece model: UNIGRAM, byte fallback, official special pieces.

It is written piece by piece, not trained: pieces are the characters and the words of a small text,
scored by frequency.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from pipeline.stepaudio.tokens import AUDIO_TOKENS

SPACE = "▁"  # how sentencepiece writes a space
BYTES = 256
CONTROLS = ("<s>", "</s>")
USER_DEFINED = ("<|EOT|>", "<|BOT|>")
CHARACTER_PENALTY = 4.0  # nats: a word beats its spelling
MIN_SCORE = -20.0  # of characters that the text does not hold
CHARACTERS = "".join(chr(code) for code in range(0x21, 0x7F)) + "，。！？、：；（）“”‘’…—"
TEXT = """
system human assistant You are a helper that speaks. Say the text below in the voice that you have
just heard, and keep its tone, its pace and its accent. A speaker reads one line; you read the
next one the same way. Make the following audio happy, sad, angry, calm or surprised; make it
faster or slower; take away the noise and the silence; whisper it or shout it. Here is the audio
and here are its words. The quick brown fox jumps over the lazy dog, and a voice is encoded once.
Good morning, how are you today? I have been waiting for you all day long, he said, but nobody
came to the door. What do you want to do with the time that is left? We can walk to the river and
look at the boats. She sells sea shells on the sea shore when the weather is fine. It was the best
of times for some of them, and the worst of times for most. There is no place like home, they say,
and yet everyone wants to go away. Please read this sentence with the same emotion and the same
style. Thank you very much, see you soon, good night.
你好，今天天气很好，我们一起去公园吧。请用同样的声音和语气朗读下面的文字。谢谢你的帮助，明天见。
这是一个语音合成的例子，声音只需要编码一次，然后到处都可以使用。他说得很快，也很清楚，大家都听懂了。
"""


def tokenizer_model() -> bytes:
    """The serialized model.

    Ids: 0 <unk>, 1 <s>, 2 </s>, 3 <|EOT|>, 4 <|BOT|>, 256 bytes, text, then 5,120 audio pieces.
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
    for piece, score in _text_pieces():
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


def _text_pieces() -> list[tuple[str, float]]:
    """(piece, log-probability), most frequent first: words with a leading space, and characters."""
    words = Counter(SPACE + word for word in re.findall(r"[A-Za-z']{2,}", TEXT))
    characters = Counter(TEXT.replace("\n", "").replace(" ", SPACE))
    total = sum(words.values())
    scores = {word: math.log(count / total) for word, count in words.items()}
    n_characters = sum(characters.values())
    for character in sorted(set(CHARACTERS) | set(characters) | {SPACE}):
        count = characters[character]
        score = math.log(count / n_characters) - CHARACTER_PENALTY if count else MIN_SCORE
        scores[character] = score
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
