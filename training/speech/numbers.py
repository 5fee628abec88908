"""Sentences with numbers as people write them: counts, money, dates, clock times, telephones."""

from __future__ import annotations

import numpy as np

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


def english_number(rng: np.random.Generator, subject: str) -> str:
    """One sentence, or a number alone."""
    n = _drawn(rng)
    forms = (
        f"{n}.",
        f"{subject} counted {n} of them.",
        f"it costs ${n}.{rng.integers(10, 100)}.",
        f"the train leaves at {_clock(rng)}.",
        f"{subject} was born on {_MONTHS[rng.integers(12)]} {rng.integers(1, 29)}, "
        f"{rng.integers(1900, 2030)}.",
        f"call {rng.integers(200, 999)}-{rng.integers(200, 999)}-{rng.integers(1000, 9999)}.",
        f"that is {rng.integers(1, 100)}% of {n}.",
        f"see page {rng.integers(1, 700)}, the {rng.integers(4, 20)}th line.",
        f"it is {rng.integers(1, 40)}.{rng.integers(1, 10)} km from here.",
        f"in {rng.integers(1800, 2030)}, {subject} moved house.",
        f"room {rng.integers(1, 999)}, please.",
    )
    return forms[int(rng.integers(len(forms)))]


def mandarin_number(rng: np.random.Generator, subject: str) -> str:
    """One sentence, or a number alone."""
    n = _drawn(rng)
    forms = (
        f"{n}。",
        f"{subject}数了{n}个。",
        f"一共{n}.{rng.integers(1, 10)}元。",
        f"火车{_clock(rng)}出发。",
        f"今天是{rng.integers(1950, 2030)}年{rng.integers(1, 13)}月{rng.integers(1, 29)}日。",
        f"他的电话是13{rng.integers(100_000_000, 999_999_999)}。",
        f"占{rng.integers(1, 100)}%。",
        f"请看第{rng.integers(1, 300)}页。",
        f"离这里{rng.integers(1, 90)}公里。",
        f"{subject}住在{rng.integers(1, 30)}楼{rng.integers(101, 999)}号。",
        f"{subject}今年{rng.integers(3, 99)}岁了。",
    )
    return forms[int(rng.integers(len(forms)))]


def _drawn(rng: np.random.Generator) -> int:
    """Few digits as often as many."""
    return int(10 ** rng.uniform(0, 5))


def _clock(rng: np.random.Generator) -> str:
    return f"{rng.integers(1, 13)}:{5 * rng.integers(12):02}"
