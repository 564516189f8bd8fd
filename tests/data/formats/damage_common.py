"""A damaged dataset, and damage that any format can have."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LENGTHS = (12, 1, 20, 7)
"""Steps of the episodes of the dataset that is damaged."""


@dataclass(frozen=True)
class Variant:
    """A damaged dataset, and what may come of reading it.

    Args:
        name: Format and damage.
        path: What to read.
        same_as: Undamaged or shortened dataset that it may be read as; None: must be refused.
        says: Regular expression in the error.
        filter_key: For RoboMimic.
        verify: Read mapped columns in full, as `rllib data info` does.
    """

    name: str
    path: Path
    same_as: Path | None = None
    says: str = ""
    filter_key: str | None = None
    verify: bool = False


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def object_array(canary: Path, rows: int) -> np.ndarray:
    array = np.empty(rows, object)
    array[:] = [Canary(canary)] * rows
    return array


def byte_damage(
    good: Path, folder: Path, header: Callable[[int], list[int]], part: str = ""
) -> Iterator[Variant]:
    """The dataset, or one file of its folder, cut at many lengths and with a bit flipped."""

    def variant(label: str, data: bytes) -> Variant:
        copy = folder / f"{good.stem}{part.replace('/', '_')}-{label}{good.suffix}"
        if part:
            shutil.copytree(good, copy)
        (copy / part if part else copy).write_bytes(data)
        return Variant(f"{good.name}{part and '/' + part}: {label}", copy, same_as=good)

    data = (good / part if part else good).read_bytes()
    size = len(data)
    cuts = {0, 1, 7, size // 100, size // 10, size // 4, size // 2, size * 3 // 4, size - 9}
    for length in sorted(cuts | {size - 1}):
        yield variant(f"cut at {length}", data[:length])
    for offset in header(size):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << (offset % 8)
        yield variant(f"bit {offset % 8} of byte {offset}", bytes(damaged))


def ends(first: int, last: int, count: int) -> Callable[[int], list[int]]:
    """`count` bytes each, spread over the first and the last so many bytes of a file."""

    def offsets(size: int) -> list[int]:
        head = np.linspace(0, min(first, size) - 1, count).astype(int) if first else []
        tail = size - 1 - np.linspace(0, min(last, size) - 1, count).astype(int) if last else []
        return sorted({*map(int, head), *map(int, tail)})

    return offsets


def changed(index: Any, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def apply(values: np.ndarray) -> np.ndarray:
        values[index] = value
        return values

    return apply
