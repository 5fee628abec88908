"""What callers want to hear: texts of any length, from sentences in a random order."""

from __future__ import annotations

import numpy as np

KNOWN = "A voice that is known speaks at once."

_SENTENCES = (
    "The first bus leaves before the bakery opens.",
    "Nobody had told them that the bridge was closed.",
    "Your parcel will arrive between nine and eleven.",
    "She counted the windows twice and then went home.",
    "If you would like to speak to somebody, press one.",
    "There was a light in the kitchen, and the radio was on.",
    "He wrote the number on his hand so as not to lose it.",
    "The lake was so still that the hills stood in it.",
    "We have moved your appointment to Thursday afternoon.",
    "It rained for a week, and then the garden was green.",
    "Please keep your ticket until the end of the journey.",
    "The dog knew the way better than any of us.",
    "A letter came, and after that nothing was as before.",
    "Turn left behind the church, and you will see the sea.",
    "They sat on the wall and waited for the ferry.",
    "The price includes breakfast and a room with a view.",
    "My grandmother kept her buttons in a biscuit tin.",
    "Your balance is too low for this payment.",
    "In the evening the whole street smelled of bread.",
    "The last question was the easiest of them all.",
)
_SHORT = ("Hello.", "One moment, please.", "Thank you for calling.", "All right, then.", "Goodbye.")


def text_of(chars: tuple[int, int], dice: np.random.Generator) -> str:
    """A text of about as many characters as a draw between the two; a sentence more at most."""
    wanted = int(dice.integers(chars[0], chars[1] + 1))
    if wanted < min(map(len, _SENTENCES)):
        return _SHORT[dice.integers(len(_SHORT))]
    text = _SENTENCES[dice.integers(len(_SENTENCES))]
    while len(text) < wanted:
        text = f"{text} {_SENTENCES[dice.integers(len(_SENTENCES))]}"
    return text
