"""The espeak-ng library behind one lock: text → samples and phoneme events.

The library (GPLv3) is bundled by the package espeakng-loader, which only the embedded model needs:
the extra `embedded`. It keeps global state: a process may have only one instance of Espeak, since
a second would receive the first one's events.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.libraries import ESPEAK, require

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback
_PHONEME_EVENTS = 1  # espeak_Initialize option
_UTF8 = 1  # espeak_Synth flag
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_DEFAULTS = {_RATE: 175, _PITCH: 50, _RANGE: 50}
_END, _WORD, _PHONEME = 0, 1, 7  # espeak_EVENT_TYPE


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True, slots=True)
class EspeakVoice:
    """Settings of espeak's voice."""

    name: str = "en-us"
    """Name of voice and variant."""
    rate: int = _DEFAULTS[_RATE]
    """Words a minute."""
    pitch: int = _DEFAULTS[_PITCH]
    """0 to 99."""
    range: int = _DEFAULTS[_RANGE]
    """0 to 99."""


@dataclass(frozen=True, slots=True)
class PhoneEvent:
    """Start of a phoneme or of a word."""

    mnemonic: str
    """espeak's name of the phoneme; empty for a word."""
    start_samples: int
    """Its first sample."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """Speech with its phoneme events."""

    samples: NDArray[np.int16]
    """int16 (n,), at `rate_hz`."""
    rate_hz: int
    events: tuple[PhoneEvent, ...]
    """Phonemes and words in order of time."""


class Espeak:
    """data_dir: the directory that holds `espeak-ng-data`; None is the package's own.

    Raises ConfigError when the library or its data are not there.
    """

    def __init__(self, data_dir: Path | None = None) -> None:
        require(ESPEAK)
        import espeakng_loader

        self._lock = threading.Lock()
        path = data_dir or Path(espeakng_loader.get_data_path()).parent
        try:
            self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise ConfigError(f"the espeak-ng library cannot be loaded: {error}") from error
        self.rate_hz: int = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, str(path).encode(), _PHONEME_EVENTS
        )
        if self.rate_hz <= 0:
            raise ConfigError(f"espeak-ng finds no data in {path}")
        self._callback = _Callback(self._receive)  # the library keeps a bare pointer to it
        self._library.espeak_SetSynthCallback(self._callback)
        self._parts: list[NDArray[np.int16]] = []
        self._events: list[PhoneEvent] = []

    def speak(self, text: str, voice: EspeakVoice | None = None) -> Utterance:
        """Raises ConfigError for a voice that espeak does not have."""
        voice = voice or EspeakVoice()
        encoded = text.encode() + b"\0"
        with self._lock:
            self._set_voice(voice)
            self._parts, self._events = [], []
            self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8, None, None)
            self._library.espeak_Synchronize()
            parts, events = self._parts, tuple(self._events)
        samples = np.concatenate(parts) if parts else np.empty(0, np.int16)
        return Utterance(samples, self.rate_hz, events)

    def _set_voice(self, voice: EspeakVoice) -> None:
        if self._library.espeak_SetVoiceByName(voice.name.encode()):
            raise ConfigError(f"espeak-ng has no voice {voice.name!r}")
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.range)):
            self._library.espeak_SetParameter(parameter, value, 0)

    def _receive(self, samples: Any, n_samples: int, events: Any) -> int:
        """Called by the library while it speaks; 0 means continue."""
        if samples and n_samples > 0:
            self._parts.append(np.ctypeslib.as_array(samples, (n_samples,)).copy())
        index = 0
        while (event := events[index]).type != _END:
            if event.type == _PHONEME:
                mnemonic = event.id.string.decode(errors="replace")
                self._events.append(PhoneEvent(mnemonic, event.sample))
            elif event.type == _WORD:
                self._events.append(PhoneEvent("", event.sample))
            index += 1
        return 0


_making = threading.Lock()  # concurrent first callers share one instance


def default_espeak() -> Espeak:
    """The process's instance with the package's own data, created at the first call."""
    with _making:
        return _made_espeak()


@functools.cache
def _made_espeak() -> Espeak:
    return Espeak()
