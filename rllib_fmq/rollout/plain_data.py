"""Data that can be stored and loaded without trusting pickle."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

_KINDS = "biuf"
"""NumPy's kinds of numbers that are loaded again."""
_MAX_DEPTH = 50
"""Levels of dicts and lists, of which an info that holds itself would have no end."""


class _Dropped:
    """Stands for what has no plain form."""


def plain(value: Any) -> Any:
    """Reduce nested data to what ``load_plain`` loads again.

    Args:
        value: Anything; sequences become lists, arrays of texts too, tensors arrays on the host,
            and values of derived classes, such as enumerations, those of the class itself.
    Returns:
        A copy of NumPy arrays of bools and real numbers, numbers, strings, bytes, None, lists and
        dicts. Entries of dicts and lists that have no such form (complex numbers, objects that an
        environment puts into its infos, what lies more than 50 levels deep) are left out of dicts
        and None in lists.
    """
    reduced = _reduce(value, 0)
    return None if reduced is _Dropped else reduced


def _reduce(value: Any, depth: int) -> Any:
    if isinstance(value, np.generic):  # first: NumPy's float64 is a float, too
        return _scalar(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float | str | bytes):
        return _base(value)
    if isinstance(value, torch.Tensor):
        return _reduce(_host_array(value), depth)
    if isinstance(value, np.ndarray):
        return np.array(value) if value.dtype.kind in _KINDS else _reduce(value.tolist(), depth)
    if depth == _MAX_DEPTH:
        return _Dropped
    if isinstance(value, Mapping):
        reduced = {
            str.__str__(key): _reduce(part, depth + 1)
            for key, part in value.items()
            if isinstance(key, str)
        }
        return {key: part for key, part in reduced.items() if part is not _Dropped}
    if isinstance(value, list | tuple | deque):
        parts = [_reduce(part, depth + 1) for part in value]
        return [None if part is _Dropped else part for part in parts]
    return _Dropped


def _scalar(value: Any) -> Any:
    """A NumPy scalar as Python's; NumPy itself leaves long doubles as they are."""
    item = float(value) if value.dtype.kind == "f" else value.item()
    return item if type(item) in (bool, int, float, str, bytes) else _Dropped


def _base(value: float | str | bytes) -> float | str | bytes:
    """The same without its derived class, whose own conversions may say something else."""
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return str.__str__(value) if isinstance(value, str) else bytes(memoryview(value))


def _host_array(tensor: torch.Tensor) -> Any:
    if tensor.dtype == torch.bfloat16:  # NumPy has none
        tensor = tensor.float()
    return tensor.numpy(force=True)
