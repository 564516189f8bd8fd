"""FMQ and QGBS for Ray RLlib: offline-to-online RL with one-step flow-map policies.

Importing this package registers the algorithms FMQ, QGBS, MVP and QC with RLlib and Tune, which
loads both; with RLLIB_FMQ_REGISTER=0 in the environment it does not. Without Ray,
``rllib_fmq.serving.Policy`` still acts.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rllib_fmq._version import __version__

if TYPE_CHECKING:
    from rllib_fmq.algorithms import (
        FMQ,
        MVP,
        QC,
        QGBS,
        FMQConfig,
        MVPConfig,
        QCConfig,
        QGBSConfig,
    )
    from rllib_fmq.registration import ALGORITHMS, register_algorithms

__all__ = [
    "ALGORITHMS",
    "FMQ",
    "MVP",
    "QC",
    "QGBS",
    "FMQConfig",
    "MVPConfig",
    "QCConfig",
    "QGBSConfig",
    "__version__",
    "register_algorithms",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from rllib_fmq import algorithms, registration

        return getattr(algorithms if hasattr(algorithms, name) else registration, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _is_command() -> bool:
    """Whether this process is the command ``rllib``, which helps before it loads Ray."""
    script = PurePath(next(iter(sys.argv), "")).stem
    return script == "rllib" or sys.orig_argv[1:3] == ["-m", "rllib_fmq.cli"]


def _registers() -> bool:
    """Whether RLlib is to be loaded: not by processes that only serve policies."""
    wanted = os.environ.get("RLLIB_FMQ_REGISTER") != "0"
    return wanted and not _is_command() and find_spec("ray") is not None


if _registers():
    __getattr__("register_algorithms")()
