"""Which threads go first: event loops before those that compute on a CPU; those that feed a GPU."""

from __future__ import annotations

import os
import sys
import threading

import torch

BEHIND = 5  # of niceness: a third of the time of a thread that does not give way
MOST = 19
SWITCH_S = (
    0.0005  # for so long a thread that feeds a GPU waits for Python beside others; it is 5 ms
)


def give_way(device: torch.device) -> None:
    """Let event loops on the same cores run first: called on a thread that computes.

    What they do for a request takes microseconds, and all who listen or wait to be told no wait for
    it; a chunk of speech takes tenths of a second. Threads that this one starts have the same. On a
    GPU the thread itself is what the device waits for: it keeps its priority, and whoever runs
    Python in this process hands it on soon.
    """
    if device.type == "cuda":
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))
    if device.type != "cpu" or not sys.platform.startswith("linux"):  # elsewhere of all the process
        return
    thread = threading.get_native_id()
    nice = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, min(nice + BEHIND, MOST))
