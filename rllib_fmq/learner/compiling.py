"""Whether a run's updates are compiled, and the note that says so."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import Any

MANY_UPDATES = 100_000
"""Planned updates from which ``compile_updates="auto"`` compiles: fewer do not earn its minutes."""
COMPILING = (
    "compiling the update, a minute or two, once: torch keeps the result on disk "
    "(compile_updates=False turns this off)"
)


def planned_updates(config: Any) -> float:
    """Gradient updates of both phases.

    Args:
        config: With ``offline_updates``, ``online_env_steps``, ``utd_ratio``.
    """
    planned: float = config.offline_updates + config.online_env_steps * config.utd_ratio
    return planned


def will_compile(config: Any, device_type: str) -> bool:
    """Resolve ``compile_updates``.

    Args:
        config: With ``compile_updates`` and the lengths of the phases.
        device_type: Of the learner, such as "cpu".
    Returns:
        The key itself, where it is not "auto"; else whether the run is long enough and what
        the compiler needs is there.
    Source: ours.
    """
    if config.compile_updates != "auto":
        return bool(config.compile_updates)
    return planned_updates(config) >= MANY_UPDATES and has_compiler(device_type)


def has_compiler(device_type: str) -> bool:
    """Whether torch's compiler finds what it builds upon.

    Args:
        device_type: "cpu" needs a C++ compiler ($CXX, g++ or clang++), "cuda" needs Triton.
    """
    if device_type == "cpu":
        names = (os.environ.get("CXX"), "g++", "clang++")
        return any(name and shutil.which(name.split()[0]) for name in names)
    return device_type == "cuda" and importlib.util.find_spec("triton") is not None
