"""The end of a vector of environments that are processes."""

from __future__ import annotations

import time
from contextlib import suppress

import gymnasium as gym

CLOSE_TIMEOUT_S = 5.0
"""Time for the processes of an "async" vector to close their environments."""


def end_processes(vector: gym.vector.AsyncVectorEnv) -> None:
    """Close it also where a process is dead or hangs, for which its own ``close`` waits.

    Args:
        vector: It cannot be used any more.
    """
    for pipe in vector.parent_pipes:
        with suppress(OSError):  # of a process that is dead
            if pipe is not None:
                pipe.send(("close", None))
    deadline = time.monotonic() + CLOSE_TIMEOUT_S
    for process in vector.processes:
        process.join(timeout=max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join(timeout=1.0)
    for pipe in vector.parent_pipes:
        if pipe is not None:
            pipe.close()
    vector.closed = True
