"""Where audio of a command goes: a file, standard output, a player; or several of them."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deployments.client.players import Player, Writer, found_player, playing
from pipeline.errors import UnsupportedError

STDIO = Path("-")
FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm", "pcmu", "pcma")
HEADLESS = frozenset({"pcm", "pcmu", "pcma"})
LONGEST_S = 86_400.0  # that is played behind its fetching
_HEADER_BYTES, _RATE_AT = 44, 24  # of our wav
_OF_SUFFIX = {".ogg": "opus", ".ulaw": "pcmu", ".alaw": "pcma"}


@dataclass(frozen=True, slots=True)
class Outlet:
    """file: None: no file. audio_format: of what is written. player: None: nobody listens."""

    file: Path | None
    audio_format: str
    player: Player | None = None

    @property
    def is_heard_at_once(self) -> bool:
        """The player can play what comes, as it comes."""
        return self.player is not None and self.player.plays(self.audio_format)

    @property
    def name(self) -> str:
        """For people."""
        if self.file is None:
            return "played"
        return "standard output" if self.file == STDIO else str(self.file)

    @contextmanager
    def opened(self) -> Iterator[Poured]:
        """What is poured goes everywhere. A file is there when all of it is, or not at all."""
        with ExitStack() as stack:
            poured = Poured()
            if self.player is not None:  # ends behind the file, which stays if it fails
                hears = playing if self.is_heard_at_once else _played_behind
                poured.writers.append(stack.enter_context(hears(self.player)))
            if self.file is not None:
                poured.writers.append(stack.enter_context(_writing(self.file)))
            yield poured


@dataclass(slots=True)
class Poured:
    """Takes bytes, and counts them."""

    writers: list[Writer] = field(default_factory=list[Writer])
    n_bytes: int = 0

    def write(self, piece: bytes) -> None:
        for write in self.writers:
            write(piece)
        self.n_bytes += len(piece)


def outlet(file: Path | None, audio_format: str | None, *, play: bool, as_json: bool) -> Outlet:
    """Of a command's options. Raises UnsupportedError, and SetupError where nothing can play."""
    if file is None and not play:
        raise UnsupportedError(
            "say where the audio goes: -o FILE, -o - (standard output) or --play"
        )
    if file == STDIO and as_json:
        raise UnsupportedError("--json goes to standard output, which -o - fills: leave one out")
    player = found_player() if play else None
    if audio_format is None:
        audio_format = _format_of(file)
    if audio_format not in FORMATS:
        raise UnsupportedError(f"--format {audio_format}: allowed are {', '.join(FORMATS)}")
    if player is not None and audio_format in HEADLESS:
        raise UnsupportedError(f"--play: {audio_format} does not say its rate; take wav")
    return Outlet(file, audio_format, player)


def _format_of(file: Path | None) -> str:
    """By a file's suffix; wav for a player alone, mp3 for standard output."""
    if file is None:
        return "wav"
    if file == STDIO:
        return "mp3"
    suffix = file.suffix.lower()
    audio_format = _OF_SUFFIX.get(suffix, suffix.removeprefix("."))
    if audio_format not in FORMATS:
        raise UnsupportedError(
            f"cannot tell an audio format from {file.name!r}: give it a suffix of "
            f"{', '.join(f'.{name}' for name in FORMATS)} or .ogg, or say --format"
        )
    return audio_format


@contextmanager
def _writing(file: Path) -> Iterator[Writer]:
    """Raises OSError."""
    if file == STDIO:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    if file.exists() and not file.is_file():  # a pipe, a device
        with file.open("wb") as opened:
            yield opened.write
        return
    draft = file.with_name(f".{file.name}.part")
    try:
        with draft.open("wb") as opened:
            yield opened.write
        _tell_length(draft)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _tell_length(file: Path) -> None:
    """A wav that came as a stream says in its header how long it is, now that all is there."""
    from pipeline.audio.encode import wav_header

    with file.open("r+b") as opened:
        head = opened.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES or not head.startswith(b"RIFF"):
            return
        (rate_hz,) = struct.unpack_from("<I", head, _RATE_AT)
        if head == wav_header(rate_hz, n_samples=None):
            n_samples = (file.stat().st_size - _HEADER_BYTES) // 2
            opened.seek(0)
            opened.write(wav_header(rate_hz, n_samples=n_samples))


@contextmanager
def _played_behind(player: Player) -> Iterator[Writer]:
    """Kept, made a wav, and played when all is there."""
    from pipeline.audio.decode import ClipLimits, decode_clip
    from pipeline.audio.encode import to_pcm16, wav_header

    kept = bytearray()
    yield kept.extend
    limits = ClipLimits(
        min_duration_s=0.0, max_duration_s=LONGEST_S, max_bytes=len(kept), silence_peak=-1.0
    )
    clip = decode_clip(bytes(kept), limits)
    pcm = to_pcm16(clip.samples)
    with playing(player) as write:
        write(wav_header(clip.sample_rate_hz, n_samples=len(pcm)) + pcm.tobytes())
