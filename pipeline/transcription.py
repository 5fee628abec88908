"""The seam of the recogniser: what is said in a reference clip."""

from __future__ import annotations

from typing import Protocol

from pipeline.contracts import ReferenceClip


class Transcriber(Protocol):
    """Tells what is said in a clip. Deterministic: the same clip gives the same words."""

    async def transcribe(self, clip: ReferenceClip) -> str:
        """The words, without white space around them; empty where none were heard.

        Never blocks the event loop. Raises StageError when the model fails.
        """
        ...
