"""docs/gpu.md from results made up here: nothing of them is a measurement."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from load_tests.bench.report import Row
from load_tests.gpu import kit, table
from load_tests.gpu.report.lines import Service, released_lines
from load_tests.gpu.report.outlook import Outlook, card_rates
from load_tests.gpu.report.projection import Hardware
from load_tests.gpu.report.results import ORDER, Results
from load_tests.gpu.sections.section import Section
from load_tests.gpu.sizes import FULL, REHEARSAL

pytestmark = pytest.mark.unit

H100, L40S = "NVIDIA H100 80GB HBM3", "NVIDIA L40S"
DEVICE = {"copy, read and written": 2680.0, "product, bfloat16": 494.7}  # 0.8 and 0.5 of the sheet
KERNELS = {"kernels compiled": 88.0}
STAGES: dict[str, dict[str, float]] = {
    "llm": {"batch 1: rate": 400.0, "batch 16: rate": 5000.0, "batch 32: rate": 9000.0},
    "vocoder": {"8 streams: audio seconds a second": 200.0, "offline RTF, 9.6 s of audio": 0.004},
    "tokenizer": {"vq02 on cuda, 1 of 6 s: in all": 12.0},
}
CHAIN = {
    "1 streams: first audio p50": 0.15,
    "64 streams: first audio p50": 0.4,
    "64 streams: audio seconds a second": 120.0,
}


def write(directory: Path, name: str, rows: dict[str, float], **others: Any) -> None:
    """A section's file as the kit writes it."""
    directory.mkdir(parents=True, exist_ok=True)
    kept = [
        {"what": what, "value": value, "unit": "", "bar": None, "better": "lower", "is_met": True}
        for what, value in rows.items()
    ]
    document = {
        "section": name,
        "rehearsal": False,
        "commit": "abc1234",
        "dirty": False,
        "command": "python -m load_tests.gpu --out /somewhere/of/ours",
        "date": "2026-11-26T19:00:00+00:00",
        "device": H100,
        "took_s": 12.0,
        "torch": "2.11.0",
        "rows": kept,
        "tables": {},
        "failures": [],
        "left_out": [],
        **others,
    }
    (directory / f"gpu_{name}.json").write_text(json.dumps(document))


def write_all(directory: Path, device: str = H100) -> None:
    for name, rows in {"device": DEVICE, "kernels": KERNELS, **STAGES, "chain": CHAIN}.items():
        write(directory, name, rows, device=device)


def cells(page: str, start: str) -> list[str]:
    """The cells of the only row that starts so."""
    (row,) = (line for line in page.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in row.strip("|").split(" | ")]


def section(page: str, title: str) -> str:
    """What stands below a heading."""
    return page.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_the_page_in_the_repository_is_what_its_results_give() -> None:
    assert table.differences(table.RESULTS, table.PAGE) == []


def test_without_results_every_place_is_open(tmp_path: Path) -> None:
    page = table.generate(tmp_path)
    assert "Nothing has been measured on a GPU yet" in section(page, "In short")
    assert page.count("\nNot measured.\n") == len(ORDER)
    open_places = section(page, "To the L40S: a projection, and places for measurements")
    n_lines = len(released_lines(Service.load())) + 2 * len(FULL.chain_streams)
    assert open_places.count("| not measured yet |") == n_lines
    assert "run `load_tests/gpu/run --out load_tests/results/l40s` on an" in open_places
    assert "/ 0" not in page
    assert "nan" not in page


def test_what_was_measured_stands_beside_what_others_published(tmp_path: Path) -> None:
    write_all(tmp_path)
    short = section(table.generate(tmp_path), "In short")
    assert f"Measured on one {H100}, commit abc1234, 2026-11-26" in short
    first, rates = short.split("**Seconds of audio a second")
    assert cells(first, "who")[4:10] == ["1", "4", "8", "16", "32", "64"]
    measured = "**timbre** | Step-Audio-EditX, Step1 3B, cloning | H100 80GB HBM3"
    assert cells(first, measured)[3:10] == ["median", "150", "", "", "", "", "400"]
    peer = cells(first, "vLLM-Omni, a branch")
    assert peer[1:10] == [
        *("Qwen3-TTS-12Hz-1.7B-Base, cloning", "H100 80GB", "median"),
        *("", "", "", "", "", "353"),
    ]
    rates = rates.split("**The LLM alone")[0]
    assert cells(rates, measured)[3:9] == ["", "", "", "", "", "120"]
    assert "sections not measured: beside, parity" in short


def test_a_row_is_projected_by_what_binds_it(tmp_path: Path) -> None:
    write_all(tmp_path)
    page = table.generate(tmp_path)
    row = cells(page.split("## To the L40S")[1], "llm, batch 1: rate")
    # 6.18 GB at 2,680 GB/s: 433.7 tokens a second at most; the L40S has 3350 / 864 times less
    assert row[1:] == [
        *("400", "92 %", "bandwidth", "× 3.88", "103", "not measured yet"),
    ]
    tokenizer = cells(page.split("## To the L40S")[1], "tokenizer, vq02 on cuda, 1 of 6 s")
    # 71.5 GFLOP at 66.9 TFLOP/s against 0.631 GB at 0.8 of 864 GB/s: 1.069 ms to 0.912
    assert tokenizer[3:6] == ["bandwidth", "× 0.853", "10.2"]
    chain = cells(page.split("## To the L40S")[1], "chain, 64 streams: first audio p50")
    low, high = (float(end) for end in chain[5].split(" to "))
    assert low == pytest.approx(0.4 * 494.7 / 183, rel=0.01)  # the vocoder's TF32
    assert high == pytest.approx(0.4 * 3350 / 864, rel=0.01)


def test_a_shared_card_by_hand(tmp_path: Path) -> None:
    write_all(tmp_path)
    hardware = Hardware.load()
    outlook = Outlook(Results.load(tmp_path), Results(), hardware, Service.load())
    llm, vocoder, tokenizer = outlook.stage_rates()
    assert llm.of == "batch 16: rate"  # 24 slots: of 32 streams nothing is known
    assert llm.audio_s_per_s == pytest.approx(5000 / (3350 / 864) / (5 / 0.12), rel=1e-3)
    assert vocoder.of == "8 streams: audio seconds a second"
    assert 200 / 3.88 < vocoder.audio_s_per_s < 200 / 2.70
    vq06_s = 0.5145e9 / (0.8 * 864e9)  # reading its file's weights binds a clip of 6 s
    clip_s = 0.012 * 0.9122 / 1.0692 + vq06_s
    assert tokenizer.audio_s_per_s == pytest.approx(9.6 / (0.3 * clip_s), rel=1e-3)
    assert not any(stage.is_measured for stage in (llm, vocoder, tokenizer))
    shared, needed = card_rates([llm, vocoder, tokenizer])
    assert shared == min(llm.audio_s_per_s * 0.5, vocoder.audio_s_per_s * 0.25)
    short = section(table.generate(tmp_path), "In short")
    assert f"{shared:.1f} (${1.861 / shared:.3g} an hour of speech)" in short
    assert f"{needed:.1f} (${1.861 / needed:.3g} an hour of speech)" in short
    assert "*projected* from its stages" in short


def test_rows_of_the_target_fill_their_places(tmp_path: Path) -> None:
    write_all(tmp_path)
    write(tmp_path / "l40s", "llm", {"batch 1: rate": 120.0}, device=L40S)
    write(tmp_path / "l40s", "chain", {"1 streams: first audio p50": 0.5}, device=L40S)
    page = table.generate(tmp_path)
    projection = page.split("## To the L40S")[1]
    assert cells(projection, "llm, batch 1: rate")[5:] == ["103", "120"]
    assert cells(projection, "llm, batch 16: rate")[6] == "not measured yet"
    assert cells(projection, "chain, 1 streams: first audio p50")[6] == "0.5"
    first = section(page, "In short").split("**Seconds of audio")[0]
    assert cells(first, "**timbre** | Step-Audio-EditX, Step1 3B, cloning | L40S")[4] == "500"
    assert "## Measured on the L40S" in page


def test_a_measured_target_is_not_projected_to(tmp_path: Path) -> None:
    write_all(tmp_path, L40S)
    page = table.generate(tmp_path)
    short = section(page, "In short")
    assert "projected" not in short
    assert "measured from its stages" in short
    row = cells(page.split("## To the L40S")[1], "llm, batch 1: rate")
    assert (row[1], row[4], row[6]) == ("400", "× 1", "400")


def test_an_unknown_card_is_shown_and_not_projected(tmp_path: Path) -> None:
    write_all(tmp_path, "NVIDIA B200")
    page = table.generate(tmp_path)
    assert "Measured on one NVIDIA B200" in page
    assert "`hardware.yaml` has no such card" in page
    assert cells(page.split("## To the L40S")[1], "llm, batch 1: rate")[1:6] == [
        *("400", "", "bandwidth", "", ""),
    ]


def test_a_rehearsal_measures_nothing(tmp_path: Path) -> None:
    rehearsed = Section("llm", "cpu", REHEARSAL, tmp_path / "gpu_llm.json", deadline_s=0)
    rehearsed.add(Row("batch 1: rate", 12345.0, "tok/s", 1.0, "higher"))
    page = table.generate(tmp_path)
    assert "12,345" not in page
    assert "There is a rehearsal on a CPU, which measures nothing." in section(page, "The LLM")


@pytest.mark.slow
def test_a_section_as_the_kit_writes_it(tmp_path: Path) -> None:
    made = Section("llm", "cpu", FULL, tmp_path / "gpu_llm.json", deadline_s=0, commit="abc")
    made.facts["packages"] = {"torch": "2.11.0", "triton": "3.6.0"}
    made.add(Row("int4, batch 1: rate", 700.0, "tok/s", 500.0, "higher"))
    made.add(Row("first token, cached prefix", 70.0, "ms", 60.0))
    kernel = "void gemm<(int)1, float | half>(T*)"
    made.add_table("one step", [{"kernel": kernel, "us": 12.5, "share": 80.0, "launches": 3.0}])
    made.fail("join", RuntimeError("no room at /opt/of/ours/file.py"))
    made.part("profile", lambda: None)
    llm = section(table.generate(tmp_path), "The LLM")
    assert cells(llm, "int4, batch 1: rate") == [
        *("int4, batch 1: rate", "700", "tok/s", "≥ 500, met"),
    ]
    assert cells(llm, "first token, cached prefix")[3] == "≤ 60, **missed**"
    assert "- packages: torch 2.11.0; triton 3.6.0" in llm
    assert "<details><summary>one step: where its time goes</summary>\n\n| kernel | µs |" in llm
    assert "| `void gemm<(int)1, float \\| half>(T*)` | 12.5 | 80 | 3 |" in llm
    assert "- **Failed: join.** `RuntimeError: no room at file.py`" in llm
    assert "- Left out: profile: no time left." in llm


def test_a_killed_section_says_so(tmp_path: Path) -> None:
    kit._ended(tmp_path / "gpu_vocoder.json", "vocoder", "killed: it ran past its time")
    page = table.generate(tmp_path)
    assert "- **Failed: the section.** `killed: it ran past its time`" in page
    assert "Parts that failed: 1; left out: 0;" in page


def test_no_path_of_a_machine_gets_into_the_page(tmp_path: Path) -> None:
    write_all(tmp_path)
    write(tmp_path, "parity", {"in /somewhere/else": 1.0}, golden="/somewhere/of/ours/golden")
    assert "somewhere" not in table.generate(tmp_path)


def test_sections_come_in_the_kits_order() -> None:
    assert (*kit.SECTIONS, "train") == ORDER


def test_check_tells_an_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, results = tmp_path / "gpu.md", tmp_path / "results"
    write_all(results)
    words = ["table", "--results", str(results), "--page", str(page)]
    monkeypatch.setattr(sys, "argv", [*words, "--check"])
    assert table.main() == 1
    assert not page.exists()
    monkeypatch.setattr(sys, "argv", words)
    assert table.main() == 0
    monkeypatch.setattr(sys, "argv", [*words, "--check"])
    assert table.main() == 0
    capsys.readouterr()
    write(results, "llm", {"batch 1: rate": 401.0})
    assert table.main() == 1
    assert "+| batch 1: rate | 401 |" in capsys.readouterr().out
