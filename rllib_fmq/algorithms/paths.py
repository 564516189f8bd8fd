"""Paths in a config."""

from __future__ import annotations

import os
from typing import Any

from ray.rllib.algorithms.algorithm_config import NotProvided

AUTO = "auto"
"""Dataset of the environment's own name."""
MINARI = "minari:"
"""Prefix of a Minari dataset id, which is no path."""


def absolute_path(path: Any, key: str = "dataset") -> Any:
    """A path as seen from here, since Tune's trials work in folders of their own.

    Args:
        path: Path, or None, ``AUTO``, a Minari id or ``NotProvided``, which stay as they are.
        key: Config key that it is for, for the error.
    Returns:
        Absolute path.
    Raises:
        ValueError: If it is no path.
    """
    if path is None or path is NotProvided or path == AUTO:
        return path
    if not isinstance(path, str | os.PathLike):
        if key != "dataset":
            raise ValueError(f"{key}={path!r}: must be a path, or None.")
        raise ValueError(
            f"dataset must be a path, 'auto', 'minari:ID' or None, got a {type(path).__name__}: "
            "write arrays to a file with rllib_fmq.data.save_transitions, and name that."
        )
    if str(path).startswith(MINARI):
        return str(path)
    return os.path.abspath(os.path.expanduser(path))
