"""The model names that requests may use, and the deployed variant of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from deployments.config.settings import Settings
from deployments.config.stages import Stages
from pipeline.errors import MAX_FOUND, UnsupportedError

# Accepted whatever checkpoint is loaded, so that clients work unchanged.
OWN_NAMES = ("step-audio-editx", "stepfun-ai/Step-Audio-EditX")
OPENAI_NAMES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
_DATED = re.compile(r"-(?:\d{4}|\d{4}-\d{2}-\d{2})$")  # tts-1-1106, gpt-4o-mini-tts-2025-12-15
# What the predecessor and others call variants, and the quantizations that they may mean here.
_BITS = {
    "bnb": ("int4", "int8"),
    "awq": ("int4",),
    "awq-4bit": ("int4",),
    "int4": ("int4",),
    "int8": ("int8",),
}


class ModelNames:
    """The names of one service. variants: of its language model, as they are deployed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        names = (settings.model_name, *OWN_NAMES, *OPENAI_NAMES)
        self._known = {name.lower(): name for name in reversed(names)}
        self.variants: Sequence[str] = tuple(Stages.of(settings).llms)

    @property
    def listed(self) -> Sequence[str]:
        """Every name, the loaded checkpoint's first."""
        return tuple(reversed(self._known.values()))

    def find(self, name: str) -> str | None:
        """The listed name meant, or a dated one as it was asked for; None when there is none.

        White space, case and a slash at its end do not count.
        """
        asked = name.strip(" \t\r\n/").lower()
        if asked in self._known:
            return self._known[asked]
        return asked if _DATED.sub("", asked) in OPENAI_NAMES else None

    def unknown(self, name: str) -> str:
        """What is said of a name that `find` does not find: the names there are."""
        return f"no model is named {name[:MAX_FOUND]!r}; known: {', '.join(self.listed)}"

    def check(self, name: str, param: str = "model") -> None:
        """Raises UnsupportedError for the model of a request that there is none of.

        param: the field that named it.
        """
        if self.find(name) is None:
            raise UnsupportedError(self.unknown(name), param=param)

    def variant(self, name: str, param: str = "step_audio.model_variant") -> str:
        """The deployed variant meant by `name`: its own name, or that of its quantization.

        param: the field that named it. Raises UnsupportedError with those deployed.
        """
        if name in self.variants:
            return name
        for bits in _BITS.get(name, ()):
            for variant in self.variants:
                if self._bits_of(variant) == bits:
                    return variant
        raise UnsupportedError(
            f"{param}: no variant {name[:MAX_FOUND]!r} of the model is deployed; "
            f"deployed: {', '.join(self.variants)}",
            param=param,
        )

    def _bits_of(self, variant: str) -> str:
        model, llm = self._settings.llm_of(variant)
        if llm.quantization == "none" and "awq" in PurePath(model).name.lower():
            return "int4"
        return llm.quantization
