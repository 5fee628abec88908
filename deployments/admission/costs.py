"""What a vocoder and the language model behind it take for speech, learned as they work."""

from __future__ import annotations

from collections import deque

from pipeline.contracts import GROUP_S, GROUP_TOKENS

ROW_S = 0.04  # of audio
FIXED_ROWS = 11  # what every chunk costs beside its rows, in rows (known_voice_schedules.json)
FIRST_ROW_S = 0.005  # of a machine of which nothing is known: some 6 s of speech a second
FIRST_LEAD_IN_S = 0.2
FIRST_PACE = 4.0
KEPT = 256  # observations that wait to be learned
LEARN, FORGET = 0.25, 0.1  # weight of a slower time than known, and of a faster one


class Estimate:
    """A time as it was lately: it follows what is slower sooner than what is faster."""

    def __init__(self, first: float) -> None:
        self._mean, self._spread = first, 0.0

    @property
    def value(self) -> float:
        """What it will hardly exceed for long: the mean and its usual distance."""
        return self._mean + self._spread

    def restart(self, value: float) -> None:
        """Forget all but this."""
        self._mean, self._spread = value, 0.0

    def learn(self, value: float) -> None:
        """It was `value` this time. One strange time counts no more than four usual ones."""
        off = min(value, 4 * self._mean) - self._mean
        self._mean += (LEARN if off > 0 else FORGET) * off
        self._spread += FORGET * (abs(off) - self._spread)


class ServiceCosts:
    """Seconds of work. `decoded` is for any thread, the rest for one event loop."""

    def __init__(self) -> None:
        self._told: deque[tuple[int, int, float]] = deque(maxlen=KEPT)
        self._row = Estimate(FIRST_ROW_S)
        self._lead_in = Estimate(FIRST_LEAD_IN_S)
        self._token_s = Estimate(GROUP_S / GROUP_TOKENS / FIRST_PACE)

    def decoded(self, rows: int, chunks: int, took_s: float) -> None:
        """Chunks were made together, of so many rows in all."""
        self._told.append((rows, chunks, took_s))

    def begin(self) -> None:
        """What was told so far was a trial, its quickest part the truest: the rest began things."""
        trials = [took_s / (rows + FIXED_ROWS * chunks) for rows, chunks, took_s in self._told]
        self._told.clear()
        if trials:
            self._row.restart(min(trials))

    def led_in(self, waited_s: float) -> None:
        """An answer's first chunk waited so long for its tokens."""
        self._lead_in.learn(waited_s)

    def drew(self, tokens: int, work_s: float) -> None:
        """The language model drew an answer's tokens in that time, beside what else it drew."""
        if tokens and work_s > 0:
            self._token_s.learn(work_s / tokens)

    @property
    def lead_in_s(self) -> float:
        """From an answer's beginning until the tokens of its first chunk are there."""
        return self._lead_in.value

    @property
    def row_drawn_s(self) -> float:
        """Seconds until the language model has drawn a further row of one answer."""
        return self._token_s.value * ROW_S * GROUP_TOKENS / GROUP_S

    def chunk_s(self, rows: int) -> float:
        """Of the vocoder, for a chunk."""
        while self._told:
            told_rows, chunks, took_s = self._told.popleft()
            self._row.learn(took_s / (told_rows + FIXED_ROWS * chunks))
        return (rows + FIXED_ROWS) * self._row.value

    def audio_rate(self, rows: int) -> float:
        """Seconds of audio a second, all answers together, in chunks of `rows`."""
        return rows * ROW_S / self.chunk_s(rows)
