"""Paths in a config."""

from __future__ import annotations

import os
from typing import Any

from ray.rllib.algorithms.algorithm_config import NotProvided

AUTO = "auto"
"""Dataset of the environment's own name."""


def absolute_path(path: Any) -> Any:
    """A path as seen from here, since Tune's trials work in folders of their own.

    Args:
        path: Path, or None, ``AUTO`` or ``NotProvided``, which stay as they are.
    Returns:
        Absolute path.
    """
    if path in (None, NotProvided, AUTO):
        return path
    return os.path.abspath(os.path.expanduser(path))
