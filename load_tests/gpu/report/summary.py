"""The page's first screen: what was measured where, beside what others have published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from load_tests.gpu.report.markdown import code, figure, link, table, without_paths
from load_tests.gpu.report.outlook import TOKENS_PER_SPOKEN_S, Outlook, card_rates
from load_tests.gpu.report.peers import Peer, Peers
from load_tests.gpu.report.projection import Card, cost_usd_per_spoken_h
from load_tests.gpu.report.results import Results
from load_tests.gpu.sizes import FULL

OURS = "Step-Audio-EditX, Step1 3B, cloning"
NOT_YET = "not measured yet"
HOW = "`load_tests/gpu/run --out load_tests/results`"
FIRST_AUDIO, AUDIO_RATE = "first audio p50", "audio seconds a second"

Cells = dict[int, str]


def summary(outlook: Outlook, peers: Peers) -> list[str]:
    """One screen."""
    return [
        "## In short",
        "",
        *_measured_at(outlook),
        "**First audio after a request, milliseconds, by streams at once**",
        "",
        *_beside(
            outlook,
            peers.peers,
            lambda peer: peer.first_audio_ms,
            lambda results: _ours(results, FIRST_AUDIO, 1e3),
            lambda n: between(outlook, FIRST_AUDIO, n, 1e3, is_rate=False),
            has_statistic=True,
        ),
        "**Seconds of audio a second, all streams together**",
        "",
        *_beside(
            outlook,
            peers.peers,
            lambda peer: peer.audio_s_per_s,
            lambda results: _ours(results, AUDIO_RATE),
            lambda n: between(outlook, AUDIO_RATE, n, is_rate=True),
        ),
        "**The LLM alone, tokens a second, one stream**, where real time takes"
        f" {TOKENS_PER_SPOKEN_S:.2f}",
        "",
        *_llms(outlook, peers),
        *_cost(outlook),
        *_incomplete(outlook.measured),
    ]


def _measured_at(outlook: Outlook) -> Iterator[str]:
    if not outlook.measured.sections:
        yield f"Nothing has been measured on a GPU yet: run {HOW} on one, then this page's command."
        if outlook.measured.rehearsed:
            yield "What is there is of a rehearsal on a CPU at small sizes, which measures nothing."
        yield ""
        return
    for said, names in _provenances(outlook.measured).items():
        only = "" if len(names) == len(outlook.measured.sections) else f" ({', '.join(names)})"
        yield f"Measured on {said}{only}."
    yield "The shapes are the released models', the weights random: they tell time, not sound."
    if outlook.source is None:
        yield "`hardware.yaml` has no such card, so nothing is projected."
    yield ""


def _provenances(results: Results) -> dict[str, list[str]]:
    """Card, commit, date and command → the sections made so; their times of day do not count."""
    found: dict[str, list[str]] = {}
    for name, section in results.sections.items():
        facts = section.document
        commit = facts.get("commit") or "not told"
        dirty = " with changes" if facts.get("dirty") else ""
        command = code(without_paths(facts.get("command", "not told")))
        said = f"one {facts.get('device') or 'card not told'}, commit {commit}{dirty}"
        found.setdefault(f"{said}, {facts.get('date', 'no date')[:10]}, {command}", []).append(name)
    return found


def _ours(results: Results, what: str, scale: float = 1.0) -> Cells:
    """The chain's row by streams."""
    values = {n: results.value("chain", f"{n} streams: {what}") for n in FULL.chain_streams}
    return {n: figure(value * scale) for n, value in values.items() if value is not None}


def between(
    outlook: Outlook, what: str, n: int, scale: float = 1.0, *, is_rate: bool
) -> str | None:
    """Two ends of a projection: all of the chain by the best factor, and by the worst."""
    value, factors = outlook.measured.value("chain", f"{n} streams: {what}"), outlook.factors()
    if value is None or factors is None:
        return None
    ends = sorted(value * scale / f if is_rate else value * scale * f for f in factors)
    low, high = (figure(end) for end in ends)
    return low if low == high else f"{low} to {high}"


def _beside(
    outlook: Outlook,
    peers: Iterable[Peer],
    of_peer: Callable[[Peer], Mapping[int, float]],
    of_ours: Callable[[Results], Cells],
    projected: Callable[[int], str | None],
    *,
    has_statistic: bool = False,
) -> list[str]:
    """Ours, then everyone who published such a figure."""
    shown = [peer for peer in peers if of_peer(peer)]
    streams = sorted({*FULL.chain_streams, *(n for peer in shown for n in of_peer(peer))})
    target = outlook.hardware.target
    ends = {n: said for n in FULL.chain_streams if (said := projected(n)) is not None}
    card = outlook.measured.device.removeprefix("NVIDIA ") or "H100 SXM"
    ours = [("**timbre**", card, of_ours(outlook.measured) or NOT_YET)]
    if outlook.source != target:
        ours += [
            ("timbre, *projected*", target.name, ends or "not projected yet"),
            ("**timbre**", target.name, of_ours(outlook.on_target) or NOT_YET),
        ]
    rows = []
    for name, on, cells in ours:
        rest = _spread(cells, streams)
        rows.append([name, OURS, on, *(["median"] if has_statistic else []), *rest, ""])
    for peer in shown:
        cells = {n: figure(value) for n, value in of_peer(peer).items()}
        statistic = [peer.statistic or ""] if has_statistic else []
        address = f"[source]({peer.source['url']})"
        rest = _spread(cells, streams)
        rows.append([peer.name, peer.model, peer.card, *statistic, *rest, address])
    header = ["who", "model", "card", *(["of"] if has_statistic else [])]
    return table([*header, *map(str, streams), ""], rows, left=len(header))


def _spread(cells: Cells | str, streams: list[int]) -> list[str]:
    """One cell for each count of streams; a remark stands in the first."""
    if isinstance(cells, str):
        return [cells, *([""] * (len(streams) - 1))]
    return [cells.get(n, "") for n in streams]


def _llms(outlook: Outlook, peers: Peers) -> list[str]:
    line = next(line for line in outlook.lines if line.streams == 1 and line.section == "llm")
    target = outlook.hardware.target
    card = outlook.measured.device.removeprefix("NVIDIA ") or "H100 SXM"
    value = outlook.value(line)
    rows = [["**timbre**", card, figure(value, NOT_YET), _share(outlook, value), ""]]
    if outlook.source != target:
        projected, there = outlook.projected(line), outlook.target_value(line)
        rows += [
            ["timbre, *projected*", target.name, figure(projected, "not projected yet"), "", ""],
            ["**timbre**", target.name, figure(there, NOT_YET), "", ""],
        ]
    rows += [
        [peer.name, peer.card, figure(peer.tokens_per_s), "", f"[source]({peer.source['url']})"]
        for peer in peers.llm_peers
    ]
    return table(["who", "card", "tok/s", "of the bandwidth floor", ""], rows, left=2)


def _share(outlook: Outlook, value: float | None) -> str:
    """As the section says; else by arithmetic."""
    said = outlook.measured.value("llm", "batch 1: share of the bandwidth floor")
    if said is None and value is not None and outlook.source_rates is not None:
        line = next(line for line in outlook.lines if line.streams == 1)
        said = 100 * line.share_of_floor(value, outlook.source_rates)
    return "" if said is None else f"{said:.0f} %"


def _cost(outlook: Outlook) -> Iterator[str]:
    """What a card makes, and what an hour of speech costs on it."""
    said = [*_card_cost(outlook), *_chain_cost(outlook)]
    if not said:
        name = outlook.hardware.target.name
        said = [f"- What one {name} makes, and what an hour of speech costs on it: {NOT_YET}."]
    yield from said
    if not outlook.measured.sections:
        yield ""


def _card_cost(outlook: Outlook) -> Iterator[str]:
    stages, target = outlook.stage_rates(), outlook.hardware.target
    if not stages:
        return
    shared, needed = card_rates(stages)
    how = "measured" if all(stage.is_measured for stage in stages) else "*projected*"
    yield (
        f"- One {target.name} with the shares of `serve_config.yaml`, {how} from its stages, in"
        f" seconds of audio a second: {figure(shared)}{priced(target, shared)} if each keeps to its"
        f" share, {figure(needed)}{priced(target, needed)} if each takes what others leave idle."
    )


def _chain_cost(outlook: Outlook) -> Iterator[str]:
    """The whole chain on the measured card, at the most streams that it ran."""
    for n in sorted(FULL.chain_streams, reverse=True):
        rate = outlook.measured.value("chain", f"{n} streams: {AUDIO_RATE}")
        if rate is not None and outlook.source is not None:
            yield (
                f"- One {outlook.source.name}, the whole chain in one process at {n} streams:"
                f" {figure(rate)} seconds of audio a second{priced(outlook.source, rate)}."
            )
            return


def priced(card: Card, audio_s_per_s: float) -> str:
    if card.price_usd_h is None:
        return ""
    cost = cost_usd_per_spoken_h(card.price_usd_h, audio_s_per_s)
    return f" (${figure(cost)} an hour of speech)"


def _incomplete(results: Results) -> Iterator[str]:
    """Failures and omissions, so that nobody has to look for them."""
    if not results.sections:
        return
    failed = sum(len(section.failures) for section in results.sections.values())
    left_out = sum(len(section.left_out) for section in results.sections.values())
    missing = [name for name in results.names if name not in results.sections and name != "train"]
    said = f"- Parts that failed: {failed}; left out: {left_out}; sections not measured: "
    yield f"{said}{', '.join(missing) or 'none'}."
    yield ""


def sources(peers: Peers) -> list[str]:
    """Where the others' figures are from, and what belongs to them."""
    lines = ["## Others' figures", ""]
    for peer in peers.peers:
        lines.append(
            f"- {peer.name} ({peer.model}; {peer.card}; {peer.date}): {link(peer.source)}."
        )
        lines[-1] += f" {peer.notes[0].upper()}{peer.notes[1:]}." if peer.notes else ""
    lines += [
        f"- {llm.name} ({llm.card}): {llm.notes}. {link(llm.source)}." for llm in peers.llm_peers
    ]
    return [*lines, *(f"- {' '.join(remark.split())}" for remark in peers.remarks), ""]
