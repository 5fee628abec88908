"""The sounds of English and Mandarin as one set of symbols, with stress and tones.

The symbols are those that misaki writes and that the teacher of the training speech reads: stress
stands before a vowel, a tone behind one, aspiration behind a consonant.
"""

from __future__ import annotations

from dataclasses import dataclass

VOWELS = "AIOWYaeiouyæɐɑɔəɚɛɜɤɨɪʊʌᵊᵻ"
CONSONANTS = "bdfhjklmnpstvwxzðŋɡɥɕɹɻʂʃʒʔʤʧʦʨθꭧT"
ASPIRATION = "ʰ"
ASPIRATED = tuple(c + ASPIRATION for c in "ptkʦʨꭧ")
TONES = "→↗↓↘"  # first to fourth; a syllable without one is neutral
STRESS = "ˈˌ"
MARKS = ("", *TONES, *STRESS)  # what a vowel may carry
PAUSES = ",.?!"
BORDER = " "
PHONES: tuple[str, ...] = (*VOWELS, *CONSONANTS, *ASPIRATED)
SYMBOLS: tuple[str, ...] = (*PHONES, *TONES, *STRESS, *PAUSES, BORDER)

# Marks and letters that say the same to a listener; what is in neither table is left out.
_SAME = str.maketrans(
    {
        ";": ",", ":": ",", "—": ",", "–": ",", "…": ",", "(": ",", ")": ",",
        "ɾ": "T", "g": "ɡ", "r": "ɹ", "Q": "O", "ɒ": "ɑ", "\n": " ", "\t": " ",
    }
)  # fmt: skip
_ONE_CHARACTER = frozenset(VOWELS + CONSONANTS + ASPIRATION + TONES + STRESS + PAUSES + BORDER)


@dataclass(frozen=True, slots=True)
class Sound:
    """symbol: of PHONES, or one of PAUSES. mark: of MARKS; empty for consonants and pauses."""

    symbol: str
    mark: str = ""


def tidy(written: str) -> str:
    """A reader's phonemes → the same in SYMBOLS alone, single borders, a single pause mark.

    No border or pause stands first, no border last.
    """
    text = ""
    for character in written.translate(_SAME):
        if character not in _ONE_CHARACTER:
            continue
        last = text[-1:]
        if character == BORDER and (not last or last == BORDER):
            continue
        if character in PAUSES:
            said = text.rstrip(BORDER)
            if not said or said[-1] in PAUSES:
                continue
            text = said
        text += character
    return text.rstrip(BORDER)


def sounds_of(written: str) -> list[Sound]:
    """Tidy phonemes → sounds with what they carry; borders carry none."""
    return [sound for sound, _ in spans(written)]


def spans(written: str) -> list[tuple[Sound, tuple[int, ...]]]:
    """As `sounds_of`, each with the places of its characters in `written`.

    A stress mark belongs to the vowel behind it, over a consonant if need be; a tone to the vowels
    of the syllable before it ("au↓").
    """
    found: list[tuple[Sound, tuple[int, ...]]] = []
    stress, stress_at = "", ()
    for at, character in enumerate(written):
        if character in STRESS:
            stress, stress_at = character, (at,)
        elif character in TONES:
            _tone(found, character, at)
        elif character == ASPIRATION:
            if found and found[-1][0].symbol + character in ASPIRATED:
                sound, places = found[-1]
                found[-1] = (Sound(sound.symbol + character), (*places, at))
        elif character in VOWELS:
            found.append((Sound(character, stress), (*stress_at, at)))
            stress, stress_at = "", ()
        elif character != BORDER:
            found.append((Sound(character), (at,)))
    return found


def _tone(found: list[tuple[Sound, tuple[int, ...]]], tone: str, at: int) -> None:
    """The tone for the vowels at the end of what was found."""
    for n in range(len(found) - 1, -1, -1):
        sound, places = found[n]
        if sound.symbol not in VOWELS or sound.mark:
            break
        found[n] = (Sound(sound.symbol, tone), (*places, at) if n == len(found) - 1 else places)
