"""Writes deployments/capacity/profiles from results, or says whether they are theirs.

    python -m load_tests.simulate.profiles [--check]

`l40s`: measured on one where results/l40s has it, else projected as docs/gpu.md does. `h100`: as it
was measured last. `cpu`: the embedded model on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from deployments.admission.costs import FIXED_ROWS
from deployments.capacity.profile import profile_of
from deployments.config.stage_settings import CUDA_BATCH
from load_tests.gpu.report.floors import Vq02Shape, Vq06Shape, spoken_s, vq02_work, vq06_work
from load_tests.gpu.report.lines import Line, Service
from load_tests.gpu.report.outlook import Outlook
from load_tests.gpu.report.projection import Hardware, floor_s, slowdown
from load_tests.gpu.report.results import Results
from load_tests.gpu.sizes import FULL
from pipeline.prompting import PASSAGE_KEY, PASSAGE_S
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.tokens import GROUP_ROWS
from pipeline.stepaudio.vocoder.schedule import CHUNK_ROWS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "load_tests/results"
PROFILES = ROOT / "deployments/capacity/profiles"
MS = 1e-3
ANSWER_ROWS = FULL.groups * GROUP_ROWS
FEW = 1  # streams of the vocoder; more of them: as many as a call makes together, if measured
MORE = (16, 8, 4)
# Of an L40S of 44 GiB for one replica: 0.27 GB of keys and values for each slot beside 8 GB, as
# many as were measured together; 0.43 GB for each stream of a 6 s prompt (serve_config.yaml).
SLOTS_APART, STREAMS_APART = 64, 64
CLIP_S = 6.0  # of the rows of vq02
# With the default schedule an answer alone runs dry on an L40S (docs/capacity.md).
GPU_CHUNK_ROWS = (24, 15, 21, 30, 48)
VQ02 = "vq02 on cuda, 1 of 6 s: in one pass"
PREFIX_MB = "a prefix's keys and values"

Document = dict[str, Any]


def rows_of(name: str) -> dict[str, float]:
    """Of a benchmark's JSON: its rows by name."""
    return {row["what"]: row["value"] for row in read(name)["rows"]}


def read(name: str) -> Document:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def said(name: str) -> str:
    """A file and the commit that it is of."""
    return f"load_tests/results/{name} ({read(name)['commit']})"


@dataclass(frozen=True)
class GpuCosts:
    """What one card takes, from the kit's rows or their projection."""

    outlook: Outlook
    is_target: bool
    """The card that is projected to, not the one that was measured."""

    @cached_property
    def lines(self) -> Mapping[str, Line]:
        return {line.what: line for line in self.outlook.lines}

    def value(self, what: str) -> float | None:
        """Of a row with a floor; None where it was not measured."""
        line = self.lines[what]
        if not self.is_target:
            return self.outlook.value(line)
        measured = self.outlook.target_value(line)
        return self.outlook.projected(line) if measured is None else measured

    def needed(self, what: str) -> float:
        value = self.value(what)
        if value is None:
            raise SystemExit(f"{what} was not measured: there is no profile without it")
        return value

    def llm(self, config: Mapping[str, Any]) -> Document:
        rates = {n: self.value(f"batch {n}: rate") for n in FULL.batches}
        prefix_bytes = self.outlook.measured.values("llm")[PREFIX_MB] * 1e6
        return {
            "step_s": [[n, n / rate] for n, rate in rates.items() if rate is not None],
            "prefill_s": self.needed("first token, cached prefix") * MS,
            "prefill_new_s": self.needed("first token, no reuse") * MS,
            "slots": config["slots"],
            "slots_apart": SLOTS_APART,
            "chunk_tokens": 15,
            "kept_voices": int(config["prefix_cache_bytes"] / prefix_bytes),
            "passage_s": PASSAGE_S,
        }

    def vocoder(self, config: Mapping[str, Any]) -> Document:
        """As measured on the card; projected, a call by bandwidth and what it computes by FLOP.

        Weights are read once a call. Rows that were projected whole would make calls dearer than
        either: one stream is bound by what four are not.
        """
        outlook, is_measured = self.outlook, not self.is_target
        results = outlook.measured
        if self.is_target and outlook.target_results.values("vocoder"):
            results, is_measured = outlook.target_results, True
        call_s, row_s, prompt_s = vocoder_costs(results.values("vocoder"))
        here, there = outlook.source_rates, outlook.target_rates
        if not is_measured:
            assert here is not None
            assert there is not None
            call_s *= here.bandwidth / there.bandwidth
            row_s, prompt_s = (one * here.tf32 / there.tf32 for one in (row_s, prompt_s))
        return {
            "call_s": call_s,
            "row_s": row_s,
            "fixed_rows": FIXED_ROWS,
            "switch_s": 0.0,
            "prompt_s": prompt_s,
            "chunk_rows": list(GPU_CHUNK_ROWS),
            "quiet_first_rows": GPU_CHUNK_ROWS[0],
            "together": CUDA_BATCH,
            "max_streams": config["max_streams"],
            "max_streams_apart": STREAMS_APART,
            "queue_size": config["queue_size"],
            "kept_voices": 0,  # at the released sizes a state is larger than what is kept
        }

    def tokenizer(self) -> Document:
        """vq02 as measured, vq06 at its floor; what is left runs on the CPU beside them."""
        outlook, work = self.outlook, [vq02_work(Vq02Shape(), [CLIP_S])]
        rows = outlook.measured.values("tokenizer")
        vq02_ms = rows.get("vq02 on cuda, 1 of 6 s: in all") or rows[VQ02]
        rates = outlook.source_rates
        if self.is_target and outlook.source_rates and (rates := outlook.target_rates):
            vq02_ms *= slowdown(work, outlook.source_rates, rates)
        assert rates is not None
        vq06_s = floor_s([vq06_work(Vq06Shape(), CLIP_S)], rates)
        return {"clip_s": 0.0, "audio_s_s": (vq02_ms * MS + vq06_s) / CLIP_S}


def vocoder_costs(rows: Mapping[str, float]) -> tuple[float, float, float]:
    """Of a call, a row and a prompt, from three rows: streams alone and together, a first piece.

    Streams that go together share their calls: what many take longer than one is prompts and rows.
    """
    audio_s = spoken_s(ANSWER_ROWS)
    more = next(n for n in MORE if f"{n} streams: audio seconds a second" in rows)
    few_s, more_s = (
        n * audio_s / rows[f"{n} streams: audio seconds a second"] for n in (FEW, more)
    )
    first_s = rows["first piece, all tokens there"] * MS
    n_calls = calls_of(ANSWER_ROWS, CHUNK_ROWS)
    stream_s = (more_s - few_s) / (more - FEW)
    call_s = max(few_s - stream_s, 0.0) / n_calls
    n_rows, n_first = ANSWER_ROWS + FIXED_ROWS * n_calls, CHUNK_ROWS[0] + FIXED_ROWS
    row_s = (stream_s - (first_s - call_s)) / (n_rows - n_first)
    return call_s, row_s, max(first_s - call_s - n_first * row_s, 0.0)


def calls_of(rows: int, chunk_rows: tuple[int, ...]) -> int:
    """Chunks of an answer."""
    sizes, n = list(chunk_rows), 0
    while rows > 0:
        rows -= sizes.pop(0) if len(sizes) > 1 else sizes[0]
        n += 1
    return n


def front_costs() -> Document:
    """From the router's benchmark: a new text without a seed, and speech that was kept."""
    ways = {way["kind"]: way for way in read("router.json")["services"][PROXY]["ways"]}
    new, kept = ways["a new text without a seed"], ways["a repeated request"]
    parts = {one["what"]: one["p50_ms"] for one in new["first"]}
    after_ms = sum(ms for what, ms in parts.items() if what in AFTER)
    return {
        "before_s": (new["first_total"]["p50_ms"] - after_ms) * MS,
        "after_s": after_ms * MS,
        "piece_s": new["last_total"]["p50_ms"] / 2 * MS,  # a chunk, and the end behind it
        "hit_s": kept["first_total"]["p50_ms"] * MS,
        "look_up_s": rows_of("cache.json")["L2 hit, another node's replica"] * MS,
        "write_s": rows_of("prompts_cpu.json")[PROMPT] * MS,
        "call_s": sum(parts[what] for what in CALL) * MS,
    }


def tiny_passage_s() -> float:
    """Of the embedded model."""
    layout = CheckpointLayout.at(resolve_model("tiny"))
    return float(json.loads((layout.editx / "config.json").read_text("utf-8"))[PASSAGE_KEY])


PROXY, PROMPT = "fake stages, proxy", "embedded: a passage's prompt, p50"
CALL = ("call to the vocoder: queue, serialise, read", "chunk back through the handle")
AFTER = (
    *("chunk back through the handle", "relay, tape, codec", "head of the reply, middleware"),
    *("router to proxy", "HTTP out"),
)
MADE, KEPT = "a new text without a seed", "a new text with a seed: looked up and kept"


def limits() -> list[Document]:
    """Of routers, proxies, index, store and controller, as far as they were measured."""
    spent = read("router.json")["services"][PROXY]["cpu_ms_per_audio_s"]
    found = [
        limit(what, per, spent[kind][process] * MS, None if what != "index" else 64, "router.json")
        for what, process in (
            ("router", "Router"),
            ("proxy", "ProxyActor"),
            ("index", "IndexActor"),
        )
        for per, kind in (("audio_s", MADE), ("kept_audio_s", KEPT))
    ]
    call_s = rows_of("flow_ray_cpu.json")["call of one replica: its CPU"] * MS
    read_s = rows_of("cache.json")["L3 hit, S3 on loopback"] * MS
    found.append(limit("index", "look_up", call_s, 64, "flow_ray_cpu.json"))
    found.append(limit("S3 client of a router", "object", read_s, None, "cache.json"))
    measured = RESULTS / "simulate.json"
    if measured.exists() and (share := read("simulate.json").get("controller_cores_a_replica")):
        found.append(limit("controller", "replica", share, 1, "simulate.json"))
    return found


def limit(what: str, per: str, core_s: float, most: int | None, file: str) -> Document:
    return {"what": what, "per": per, "core_s": core_s, "most": most, "source": said(file)}


GPU_FILES = ("gpu_device.json", "gpu_llm.json", "gpu_vocoder.json", "gpu_tokenizer.json")
FRONT_FILES = ("router.json", "cache.json", "flow_ray_cpu.json", "prompts_cpu.json")


def gpu_profile(directory: str = "", *, is_target: bool) -> Document:
    """Of the card that is projected to, or of the one that was measured.

    directory: of the results below load_tests/results. A card without a price costs nothing.
    """
    hardware = Hardware.load()
    target = Results.load(RESULTS / hardware.target.name.lower())
    outlook = Outlook(Results.load(RESULTS / directory), target, hardware, Service.load())
    card = hardware.target if is_target else outlook.source
    assert card is not None
    application = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    args, costs = application["applications"][0]["args"], GpuCosts(outlook, is_target)
    how = f"measured on a {card.name}, random weights"
    if is_target and not target.sections:
        how = f"projected from a {outlook.source.name if outlook.source else '?'}, not measured"
    return {
        "name": card.name,
        "how": how,
        "device_capacity": 1.0,
        "front_is_apart": True,
        "engine_weight": 1.0,
        "llm": costs.llm(args["llm"]),
        "vocoder": costs.vocoder(args["vocoder"]),
        "tokenizer": costs.tokenizer(),
        "front": front_costs(),
        "limits": limits(),
        "price_usd_h": card.price_usd_h or 0.0,
        "price_of": "none is assumed" if card.price_source is None else card.price_source["title"],
        "sources": [
            *(said(f"{directory}/{name}".lstrip("/")) for name in GPU_FILES),
            *(said(name) for name in FRONT_FILES),
        ],
    }


def cpu_profile() -> Document:
    """Of two cores, by benchmarks of the embedded model; `fit` scales it to a machine."""
    schedules, llm = read("known_voice_schedules.json"), rows_of("llm_tiny_cpu.json")
    costs, prefixes = schedules["costs"], rows_of("known_voice_prefix.json")
    chunks = rows_of("chunks_cpu.json")
    clip_s = rows_of("tokenizer_cpu.json")["tiny on cpu, 6 s clip: miss"] * MS
    prompt_x = rows_of("vocoder_cpu_tiny.json")[
        "first piece: voice new against kept, same first rows"
    ]
    application = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text(encoding="utf-8"))
    args = application["applications"][0]["args"]
    vocoder, prices = args["vocoder"], yaml.safe_load(CPU_PRICES.read_text(encoding="utf-8"))
    first_s = vocoder["chunk_rows"][0] * chunks[CHUNK_ROW] * MS + chunks[CHUNK] * MS
    return {
        "name": "two cores",
        "how": "measured on two cores of a CPU, the embedded model",
        "device_capacity": 2.0,
        "front_is_apart": False,
        "engine_weight": 1 / 3,  # niceness 5: pipeline/stepaudio/niceness.py
        "llm": {
            "step_s": [[n, costs["step_s"] + n * costs["stream_s"]] for n in (1, 8)],
            "prefill_s": llm["first token, cached prefix of 600"] * MS,
            "prefill_new_s": prefixes[CPU_PREFILL] * MS
            + llm["first token, cached prefix of 600"] * MS,
            "slots": args["llm"]["slots"],
            "slots_apart": args["llm"]["slots"],
            "chunk_tokens": 15,
            "kept_voices": 400,
            "passage_s": tiny_passage_s(),
        },
        "vocoder": {
            "call_s": 0.0,
            "row_s": chunks[CHUNK_ROW] * MS,
            "fixed_rows": chunks[CHUNK] / chunks[CHUNK_ROW],
            "switch_s": chunks[SWITCH] * MS,
            "prompt_s": (prompt_x - 1) * first_s,
            "chunk_rows": vocoder["chunk_rows"],
            "quiet_first_rows": vocoder["quiet_first_rows"],
            "together": 1,
            "max_streams": vocoder["max_streams"],
            "max_streams_apart": vocoder["max_streams"],
            "queue_size": vocoder["queue_size"],
            "kept_voices": 25,
        },
        "tokenizer": {"clip_s": 0.0, "audio_s_s": clip_s / CLIP_S},
        "front": front_costs(),
        "limits": limits(),
        "price_usd_h": 2 * prices["cpu"]["usd_core_h"],
        "price_of": prices["cpu"]["said_by"],
        "sources": [said(name) for name in (*CPU_FILES, *FRONT_FILES)],
    }


CHUNK, CHUNK_ROW = "a chunk, beside its rows", "a row of a chunk"
SWITCH = "a chunk of another stream than the last: more"
CPU_PREFILL = "embedded, median prefix (288 tokens): prefill"
CPU_PRICES = ROOT / "load_tests/load/report/prices.yaml"
CPU_FILES = (
    *("known_voice_schedules.json", "llm_tiny_cpu.json", "tokenizer_cpu.json"),
    *("vocoder_cpu_tiny.json", "known_voice_prefix.json", "chunks_cpu.json"),
)


def generated() -> dict[str, str]:
    """Every profile's file, as the results give it."""
    documents = {
        "l40s": gpu_profile(is_target=True),
        "h100": gpu_profile("h100_last", is_target=False),
        "cpu": cpu_profile(),
    }
    return {name: written(document) for name, document in documents.items()}


def written(document: Document) -> str:
    """Four digits: more were never measured."""
    profile_of(document)
    return json.dumps(_rounded(document), indent=1) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.simulate.profiles")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when one differs")
    options = parser.parse_args()
    texts = generated()
    paths = {name: PROFILES / f"{name}.json" for name in texts}
    if not options.check:
        for name, path in paths.items():
            path.write_text(texts[name], encoding="utf-8")
        return 0
    stale = [
        name
        for name, path in paths.items()
        if not path.exists() or path.read_text(encoding="utf-8") != texts[name]
    ]
    for name in stale:
        print(
            f"{name}.json is not what the results give; run python -m load_tests.simulate.profiles"
        )
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
