"""The process that measures: one core, one thread of every library, memory kept once it is freed.

Nothing is imported at the top that starts threads: call ``one_thread`` before numpy, torch or JAX
are imported.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false --xla_cpu_prefer_vector_width=512"
"""For the JAX baseline: one thread, and (5 to 8 % quicker where there is AVX-512) full vectors."""

ALLOWED = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()


def one_thread(core: int | None = None) -> None:
    """Keep this process to one core and all libraries to one thread.

    Args:
        core: Its number; None: the last one that this process may use.
    """
    if hasattr(os, "sched_setaffinity"):
        core = max(ALLOWED) if core is None else core
        os.sched_setaffinity(0, {core})
    os.environ.update(dict.fromkeys(THREADS, "1"))
    os.environ["XLA_FLAGS"] = XLA_FLAGS


@contextlib.contextmanager
def all_cores() -> Iterator[None]:
    """For what is not timed: processes that are started within (compilers, Ray) may use any core.

    Only the calling thread moves; it is back on its core afterwards.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, ALLOWED)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)
