"""What makes the production config a rehearsal: the variables of Ray's environment, and no more.

As docs/operations/rehearsal.md shows them.
"""

from __future__ import annotations

from tests.readme_blocks import blocks

PAGE = "docs/operations/rehearsal.md"


def rehearsal_variables(store: str) -> dict[str, str]:
    """Of every process of Ray. store: where voices are kept."""
    (block,) = [one for one in blocks(PAGE) if one.language == "ini"]
    shown = dict(line.split("=", 1) for line in block.text.splitlines())
    return {**shown, "TIMBRE_CACHE__URL": store}
