# pyright: basic
"""One section of the kit: its sizes, and its results, on disk as soon as they are known."""

from __future__ import annotations

import gc
import json
import re
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row
from load_tests.gpu.sizes import Sizes

Table = list[dict[str, Any]]


@dataclass
class Section:
    """Rows, tables and failures of one section; every change is written to `path` at once."""

    name: str
    device: str
    """cpu or cuda."""
    sizes: Sizes
    path: Path
    deadline_s: float
    """On the monotonic clock; parts that would begin later are skipped."""
    commit: str = ""
    golden: Path | None = None
    """A directory of golden files; None without one."""
    rows: list[Row] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    started_s: float = field(default_factory=time.monotonic)
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Note where and of what commit this is."""
        self.origin = provenance(self.device)
        command = str(self.origin["command"]).replace(str(self.path.parent), "OUT")
        self.origin["command"] = re.sub(
            r"python -m load_tests\.gpu(\.__main__)?(?= )", "load_tests/gpu/run", command
        )
        if self.commit:
            self.origin.update(commit=self.commit, dirty=False)

    @property
    def is_cuda(self) -> bool:
        """Whether it runs on a GPU."""
        return self.device == "cuda"

    def add(self, *rows: Row) -> None:
        """Keep and print rows."""
        for row in rows:
            self.rows.append(row)
            print(f"  {row.what:64} {row.value:10.4g} {row.unit}", flush=True)
        self.write()

    def add_table(self, name: str, table: Iterable[dict[str, Any]]) -> None:
        """Keep a table that is no list of figures: a profile, say."""
        self.tables[name] = list(table)
        self.write()

    def part(self, what: str, work: Callable[[], Iterable[Row] | None], needs_s: float = 0) -> None:
        """Run one part and keep its rows; when it fails, or its time is up, the others still run.

        needs_s: about how long it takes on a GPU.
        """
        if time.monotonic() + needs_s > self.deadline_s:
            self.left_out.append(f"{what}: no time left")
            print(f"  {what}: no time left", flush=True)
        else:
            try:
                for row in work() or ():
                    self.add(row)
            except Exception as error:  # noqa: BLE001 - a part's failure is a result like others
                self.fail(what, error)
        self.write()
        self.let_go()

    def fail(self, what: str, error: BaseException) -> None:
        """Keep a failure with its traceback."""
        text = "".join(traceback.format_exception(error))
        self.failures.append({"part": what, "traceback": text})
        print(f"  {what} FAILED: {type(error).__name__}: {str(error)[:300]}", flush=True)
        self.write()

    def let_go(self) -> None:
        """Free what nobody holds any more, on the device too."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()

    def write(self) -> None:
        """The results so far, as JSON."""
        document = {
            "section": self.name,
            "rehearsal": self.sizes.is_rehearsal,
            **self.origin,
            "took_s": round(time.monotonic() - self.started_s, 1),
            **self.facts,
            "rows": [{**asdict(row), "is_met": row.is_met} for row in self.rows],
            "tables": self.tables,
            "failures": self.failures,
            "left_out": self.left_out,
        }
        draft = self.path.with_suffix(".part")
        draft.write_text(json.dumps(document, indent=1) + "\n")
        draft.replace(self.path)
