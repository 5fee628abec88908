"""The priority of threads that compute on a CPU, beside event loops that have little to do."""

from __future__ import annotations

import os
import sys
import threading

import torch

BEHIND = 5  # of niceness: a third of the time of a thread that does not give way
MOST = 19


def give_way(device: torch.device) -> None:
    """Let event loops on the same cores run first: called on a thread that computes.

    What they do for a request takes microseconds, and all who listen or wait to be told no wait for
    it; a chunk of speech takes tenths of a second. Threads that this one starts have the same. On a
    GPU the thread itself is what the device waits for, so it keeps its priority.
    """
    if device.type != "cpu" or not sys.platform.startswith("linux"):  # elsewhere of all the process
        return
    thread = threading.get_native_id()
    nice = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, min(nice + BEHIND, MOST))
