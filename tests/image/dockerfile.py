"""Reads a Dockerfile: its stages and their steps. Only the instructions that ours has."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = (
    *("FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "EXPOSE", "HEALTHCHECK", "CMD"),
    "STOPSIGNAL",
)
VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction. text: what follows its word, lines joined."""

    word: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage. base: the name of an earlier one, or of an image."""

    name: str
    base: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """Its stages by name; defaults: of the arguments before the first of them."""

    stages: Mapping[str, Stage]
    defaults: Mapping[str, str] = field(default_factory=dict)

    def needed(self, target: str) -> list[Stage]:
        """The stages that `target` is made of, each after those it needs."""
        stage = self.stages[target]
        others = [stage.base] if stage.base in self.stages else []
        others += [source for step in stage.steps if (source := copied_from(step))]
        needed: list[Stage] = []
        for name in others:
            needed += [one for one in self.needed(name) if one not in needed]
        return [*needed, stage]


def read_dockerfile(path: Path) -> Dockerfile:
    """Raises ValueError for an instruction that is not known here."""
    stages: dict[str, Stage] = {}
    defaults: dict[str, str] = {}
    name, base, steps = "", "", list[Step]()
    for step in _instructions(path.read_text(encoding="utf-8")):
        if step.word not in KNOWN:
            raise ValueError(f"{path.name}:{step.line}: {step.word} is not known here")
        if step.word == "FROM":
            if name:
                stages[name] = Stage(name, base, tuple(steps))
            base, _, name = step.text.partition(" AS ")
            base, steps = substituted(base, defaults), []
        elif not name and step.word == "ARG":
            key, _, value = step.text.partition("=")
            defaults[key] = value
        else:
            steps.append(step)
    stages[name] = Stage(name, base, tuple(steps))
    return Dockerfile(stages, defaults)


def copied_from(step: Step) -> str:
    """The stage that a COPY takes from; empty for the build's context."""
    found = re.match(r"--from=(\S+)", step.text) if step.word == "COPY" else None
    return found[1] if found else ""


def exec_form(text: str) -> list[str]:
    """The words of `["a", "b"]`."""
    return json.loads(text[text.index("[") :])


def assignments(text: str) -> dict[str, str]:
    """Of `A=b C="d e"`."""
    return dict(word.split("=", 1) for word in shlex.split(text))


def substituted(text: str, variables: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), text)


def _instructions(text: str) -> Iterator[Step]:
    pending, begin = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begin = begin or number
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        word, _, rest = pending.strip().partition(" ")
        yield Step(word, " ".join(rest.split()) if word != "RUN" else rest.strip(), begin)
        pending, begin = "", 0
