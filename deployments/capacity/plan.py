"""How many cards a load takes: the most that some small cells carry, and as many of them.

A cell carries what it promises when its first audio is in time and nearly nobody runs dry or is
refused. Cells are taken to be alike: each has its own part of the requests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from deployments.capacity.arrivals import DAY, Pattern, Use, asks_of, moments_of
from deployments.capacity.cell import Answered, Cell, Layout, quantile
from deployments.capacity.known import GivenRates
from deployments.capacity.limits import Around, Load, around
from deployments.capacity.profile import Profile
from deployments.config.admission_settings import AdmissionSettings
from pipeline.contracts import GROUP_S
from pipeline.errors import ConfigError

FIRST_SHARE = 0.95  # of the answers whose first audio is in time
MOST_BAD = 0.02  # of the requests that are refused, and of the answers that run dry
SHARED = Layout()  # one card for all stages
CELLS = (
    SHARED,
    Layout(vocoders=1, llms=1, is_apart=True),
    Layout(vocoders=2, llms=1, is_apart=True),
    Layout(vocoders=4, llms=2, is_apart=True),
)
SCHEDULES = ((18, 15, 21, 30, 48, 64), (24, 15, 21, 30, 48), (30, 24, 30, 48))
WARM_S = 20.0  # at the beginning, which do not count
REQUESTS = 150  # of a simulation, about
STEPS = 64  # of the rates that are tried, up to what a vocoder does that is never idle
RARER = 4  # times that half of the least of them is tried, where even that is too much
ENCODING = 0.5  # of a tokenizer, at most
HOURS_MONTH = 730
QUIET_RPS = 0.02  # of a card with nobody else: a request every fifty seconds
USUAL = Use()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. rps: the mean, of a day that of its busiest hour."""

    rps: float
    voice_hits: float
    speech_hits: float
    first_audio_s: float
    use: Use = USUAL
    pattern: Pattern = "steady"
    overlap: float = 1.0
    """Of processes on one card: 1, they take turns; 2, two run as if each were alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer."""

    cards: int
    cards_of: Mapping[str, int]
    """By stage: `llm`, `vocoder` (with the tokenizers), and `shared` by all."""
    replicas: Mapping[str, int]
    chunk_rows: tuple[int, ...]
    """Of the vocoder, under which this holds; its first is quiet_first_rows, too."""
    first_audio_s: Mapping[str, float]
    """p50 and p95 of speech that is made, in the largest cell under its load."""
    busy: Mapping[str, float]
    """Of the devices of that cell, by stage, on average."""
    refused: float
    ran_dry: float
    most_rps: float
    """That these cards carry within the target."""
    usd_h: float
    usd_spoken_h: float
    """For an hour of speech."""
    usd_month: float
    """Of a day's pattern with cards that come and go by the hour."""
    around: Sequence[Around]


@dataclass(frozen=True, slots=True)
class Seen:
    """A cell under a rate. first_s: p50 and p95. late: after the target.

    Of one that is not good only a part may have been seen.
    """

    first_s: tuple[float, float]
    late: float
    refused: float
    ran_dry: float
    busy: Mapping[str, float]

    @property
    def is_good(self) -> bool:
        in_time = self.late <= 1 - FIRST_SHARE
        return in_time and self.refused <= MOST_BAD and self.ran_dry <= MOST_BAD


Carried = Mapping[Layout, float]
"""Requests a second whose speech is made, by cell."""


def plan(profile: Profile, question: Question) -> Plan:
    """Raises ConfigError for a question without an answer, with what can be had."""
    _check(question)
    profile, carried = _carried(profile, question)
    made_rps = question.rps * (1 - question.speech_hits)
    cells = cells_for(made_rps, carried)
    largest = max(cells, key=lambda one: one.devices)
    cards = _cards(cells)
    cell_rps = min(carried[largest], max(made_rps, QUIET_RPS))
    under = seen(profile, _of_cell(question), largest, cell_rps)
    replicas = {
        "llm": sum(one.llms * n for one, n in cells.items()),
        "vocoder": (vocoders := sum(one.vocoders * n for one, n in cells.items())),
        "tokenizer": _tokenizers(profile, question, made_rps, vocoders),
    }
    near = around(profile, _load(question, sum(replicas.values())))
    replicas |= {one.what: one.needed for one in near if one.what == "router"}
    usd_h = cards * profile.price_usd_h
    hours = DAY if question.pattern == "day" else (1.0,)
    card_hours = sum(_cards(cells_for(made_rps * share, carried)) for share in hours)
    return Plan(
        cards=cards,
        cards_of=_by_stage(cells),
        replicas=replicas,
        chunk_rows=profile.vocoder.chunk_rows,
        first_audio_s={"p50": under.first_s[0], "p95": under.first_s[1]},
        busy=under.busy,
        refused=under.refused,
        ran_dry=under.ran_dry,
        most_rps=sum(carried[one] * n for one, n in cells.items()) / (1 - question.speech_hits),
        usd_h=usd_h,
        usd_spoken_h=usd_h / (question.rps * question.use.audio_s),
        usd_month=card_hours / len(hours) * profile.price_usd_h * HOURS_MONTH,
        around=near,
    )


def cells_for(made_rps: float, carried: Carried) -> dict[Layout, int]:
    """The fewest cards: as many of one cell as are full, and for the rest the least that does."""
    able = {cell: rate for cell, rate in carried.items() if rate > 0}
    found: list[dict[Layout, int]] = []
    for cell, rate in able.items():
        n_full = math.floor(made_rps / rate * (1 + 1e-9))
        rest = made_rps - n_full * rate
        cells = {cell: n_full} if n_full else {}
        if rest > 1e-9 * made_rps or not cells:
            enough = [one for one, carries in able.items() if carries >= rest]
            last = min(enough, key=lambda one: one.devices)
            cells[last] = cells.get(last, 0) + 1
        found.append(cells)
    return min(found, key=_cards)


def _cards(cells: Mapping[Layout, int]) -> int:
    return sum(one.devices * n for one, n in cells.items())


def _by_stage(cells: Mapping[Layout, int]) -> dict[str, int]:
    apart = {one: n for one, n in cells.items() if one.is_apart}
    return {
        "llm": sum(one.llms * n for one, n in apart.items()),
        "vocoder": sum(one.vocoders * n for one, n in apart.items()),
        "shared": sum(one.devices * n for one, n in cells.items() if not one.is_apart),
    }


def _load(question: Question, replicas: int) -> Load:
    use = question.use
    return Load(
        question.rps,
        use.audio_s,
        question.voice_hits,
        question.speech_hits,
        use.kept_share,
        replicas,
    )


def _carried(profile: Profile, question: Question) -> tuple[Profile, Carried]:
    """The profile with the schedule under which a pair of cards carries most; what cells carry."""
    profile = replace(profile, device_capacity=profile.device_capacity * question.overlap)
    asked, pair = _of_cell(question), CELLS[1]
    profiles = [_scheduled(profile, rows) for rows in SCHEDULES]
    rates = [most_of(one, asked, pair) for one in profiles]
    best = max(range(len(profiles)), key=lambda i: rates[i])
    if rates[best] <= 0:
        alone = replace(asked, first_audio_s=math.inf)
        firsts_s = [seen(one, alone, pair, QUIET_RPS).first_s[1] for one in profiles]
        raise ConfigError(
            f"first audio within {asked.first_audio_s:g} s is out of reach of {profile.name}, "
            f"however many there are: with nobody else it takes {min(firsts_s):.2f} s"
        )
    chosen = profiles[best]
    return chosen, {cell: most_of(chosen, asked, cell) for cell in CELLS}


def _scheduled(profile: Profile, rows: tuple[int, ...]) -> Profile:
    vocoder = replace(profile.vocoder, chunk_rows=rows, quiet_first_rows=rows[0])
    return replace(profile, vocoder=vocoder)


def _of_cell(question: Question) -> Question:
    """What cards see of it: equal for all rates, so that it is simulated once.

    A day's busiest hour is steady, and is what the cards must carry.
    """
    pattern: Pattern = "steady" if question.pattern == "day" else question.pattern
    use = replace(question.use, kept_share=0.0)
    return replace(question, rps=1.0, speech_hits=0.0, use=use, pattern=pattern, overlap=1.0)


def most_of(profile: Profile, question: Question, cell: Layout) -> float:
    """The largest of the rates that are tried that is good, found by halving; 0 of none."""
    step_hz = full_rate(profile, question) * cell.vocoders / STEPS
    low, high = 0, STEPS + 1
    while high - low > 1:
        middle = (low + high) // 2
        if seen(profile, question, cell, middle * step_hz).is_good:
            low = middle
        else:
            high = middle
    if low:
        return low * step_hz
    rare_hz = (step_hz / 2**n for n in range(1, RARER + 1))
    return next((hz for hz in rare_hz if seen(profile, question, cell, hz).is_good), 0.0)


def full_rate(profile: Profile, question: Question) -> float:
    """Requests a second of one vocoder that is never idle and whose calls are all full."""
    vocoder, audio_s = profile.vocoder, question.use.audio_s
    rows = vocoder.chunk_rows[-1]
    chunk_s = vocoder.chunks(rows * vocoder.together, vocoder.together) / vocoder.together
    work_s = audio_s / (rows * GROUP_S / 3) * chunk_s + vocoder.prompt_s
    return profile.device_capacity / work_s


@cache
def seen(
    profile: Profile,
    question: Question,
    cell: Layout,
    made_rps: float,
    *,
    admits: bool = True,
) -> Seen:
    """The cell under a rate, all of whose speech is made; no longer than it is good.

    admits: whether who could not be served in time is refused.
    """
    lasts_s = WARM_S + REQUESTS / made_rps
    dice = np.random.default_rng(1)
    moments = moments_of(question.pattern, made_rps, lasts_s, dice)
    asks = asks_of(question.use, moments, dice)
    layout = replace(cell, tokenizers=_tokenizers(profile, question, made_rps, cell.vocoders))
    profile = profile.apart() if cell.is_apart else profile
    knowledge = GivenRates(question.voice_hits, 0.0, seed=2)
    simulated = Cell(profile, layout, knowledge, AdmissionSettings(enabled=admits), seed=3)
    verdict = _Verdict(simulated, question.first_audio_s, len(moments))
    if math.isfinite(question.first_audio_s):
        simulated.heard = verdict.ended_early
    else:
        simulated.heard = verdict.heard
    simulated.run_open(asks, lasts_s)
    return verdict.seen(simulated.busy_share(simulated.env.now))


class _Verdict:
    """Counts answers."""

    def __init__(self, cell: Cell, first_audio_s: float, n_asked: int) -> None:
        self._cell, self._limit_s = cell, first_audio_s
        self._n_asked = n_asked
        self._n = self._refused = self._dry = self._late = 0
        self._firsts_s: list[float] = []

    def heard(self, answer: Answered) -> None:
        if answer.at_s < WARM_S:
            return
        self._n += 1
        self._refused += answer.outcome == "refused"
        self._dry += answer.underruns > 0
        if answer.first_audio_s is not None:
            self._firsts_s.append(answer.first_audio_s)
            self._late += answer.first_audio_s > self._limit_s

    def ended_early(self, answer: Answered) -> None:
        """Ends what cannot be good any more."""
        self.heard(answer)
        worst = max(self._refused, self._dry) / MOST_BAD, self._late / (1 - FIRST_SHARE)
        if max(worst) > self._n_asked and not self._cell.enough.triggered:
            self._cell.enough.succeed()

    def seen(self, busy: Mapping[str, float]) -> Seen:
        n, n_served = max(self._n, 1), max(len(self._firsts_s), 1)
        return Seen(
            (quantile(self._firsts_s, 0.5), quantile(self._firsts_s, FIRST_SHARE)),
            self._late / n_served,
            self._refused / n,
            self._dry / n_served,
            busy,
        )


def _tokenizers(profile: Profile, question: Question, made_rps: float, vocoders: int) -> int:
    """Each at most half busy with clips that nobody sent before."""
    encode_s = profile.tokenizer.encode(question.use.clip_s)
    busy = made_rps * (1 - question.voice_hits) * encode_s
    return min(max(math.ceil(busy / ENCODING), 1), vocoders)


def _check(question: Question) -> None:
    for name, value in (
        ("rps", question.rps),
        ("first audio", question.first_audio_s),
        ("the mean of answers", question.use.audio_s),
        ("a clip's length", question.use.clip_s),
    ):
        if not 0 < value < math.inf:
            raise ConfigError(f"{name} is {value:g}; it must be above 0")
    for name, value in (
        ("the hit rate of voice", question.voice_hits),
        ("the hit rate of speech", question.speech_hits),
        ("what is kept", question.use.kept_share),
    ):
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} is {value:g}; it is a share of 0 to 1")
    if question.speech_hits == 1:
        raise ConfigError("with a speech hit rate of 1 nothing is spoken, and no card is needed")
    if question.overlap < 1:
        raise ConfigError(f"overlap is {question.overlap:g}; it must be at least 1")
