"""The program of this machine that plays audio: found, never assumed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pipeline.errors import SetupError

Writer = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Player:
    """A program and its arguments.

    reads_pipe: it plays standard input as it comes; else it gets the name of a wav file behind its
    arguments. knows: formats that it plays, of those that a pipe may carry.
    """

    program: str
    arguments: tuple[str, ...]
    reads_pipe: bool = True
    knows: frozenset[str] = frozenset({"wav"})

    def plays(self, audio_format: str) -> bool:
        """As it comes."""
        return audio_format in self.knows


_MOST = frozenset({"wav", "mp3", "flac", "opus", "aac"})
PLAYERS = (
    Player("mpv", ("--no-video", "--really-quiet", "-"), knows=_MOST),
    Player("ffplay", ("-nodisp", "-autoexit", "-loglevel", "error", "-i", "pipe:0"), knows=_MOST),
    Player("play", ("-q", "-t", "wav", "-")),
    Player("aplay", ("-q", "-")),
    Player("pw-play", (), reads_pipe=False),
    Player("paplay", (), reads_pipe=False),
    Player("afplay", (), reads_pipe=False),
)


def found_player() -> Player:
    """The first of PLAYERS that is here. Raises SetupError when there is none."""
    for player in PLAYERS:
        if shutil.which(player.program):
            return player
    names = ", ".join(player.program for player in PLAYERS)
    raise SetupError(f"--play: no player is on this machine; install one of {names}")


@contextmanager
def playing(player: Player) -> Iterator[Writer]:
    """What is written is heard; the end of the block waits until all is.

    Raises SetupError when the player fails.
    """
    if player.reads_pipe:
        with _piped(player) as write:
            yield write
        return
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        yield file.write
        file.flush()
        done = subprocess.run(  # noqa: S603 - of the list above
            [player.program, *player.arguments, file.name], check=False
        )
        _check(player, done.returncode)


@contextmanager
def _piped(player: Player) -> Iterator[Writer]:
    process = subprocess.Popen(  # noqa: S603 - of the list above
        [player.program, *player.arguments], stdin=subprocess.PIPE
    )
    pipe = process.stdin
    if pipe is None:
        raise SetupError(f"{player.program} has no standard input")

    def write(piece: bytes) -> None:
        with suppress(BrokenPipeError):  # its end is told below
            pipe.write(piece)
            pipe.flush()

    try:
        yield write
    except BaseException:
        process.kill()
        raise
    finally:
        with suppress(BrokenPipeError):
            pipe.close()
        code = process.wait()
    _check(player, code)


def _check(player: Player, code: int) -> None:
    if code:
        raise SetupError(f"{player.program} ended with {code} before all was played")
