"""How the C library treats freed memory: an update frees and takes the same blocks every time."""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt(3)``."""
KEPT_BYTES = 256 * 2**20
"""Freed memory that is kept at most."""
LARGEST_BLOCKS = (64 * 2**20, 32 * 2**20)
"""Size up to which blocks are kept; glibc before 2.35 takes 32 MB at most."""
USERS_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables with which a user sets the same."""
OTHER_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")


def keep_freed_memory() -> bool:
    """Let this process keep blocks that it frees, rather than give them back to the system.

    By default glibc maps each block above 128 KB anew (the limit grows with use, to 32 MB at
    most) and trims the heap, so that activations of every update cost page faults. Blocks that
    were taken before stay what they are. Nothing is done where the user has set this himself,
    where another allocator is preloaded, or on other systems.

    Returns:
        Whether it was set.
    Source: ours.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in USERS_OWN):
        return False
    if any(name in os.environ.get("LD_PRELOAD", "") for name in OTHER_ALLOCATORS):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    kept = bool(mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))
    return kept and any(mallopt(_M_MMAP_THRESHOLD, size) for size in LARGEST_BLOCKS)
