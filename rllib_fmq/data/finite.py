"""Where an array holds a NaN, an infinity, or what float32 cannot hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.data.chunks import row_chunks


def find_not_finite(
    array: NDArray[Any], unused: NDArray[np.bool_] | None = None
) -> tuple[tuple[int, ...], int] | None:
    """Find values that are not finite in float32, a few rows at a time.

    Args:
        array: Numbers, shape (N,) or (N, size).
        unused: Rows that nobody reads, which may hold anything; shape (N,).
    Returns:
        Index of the first such value, and how many there are; None if there is none.
    """
    if array.dtype.kind != "f":
        return None
    first, bad = None, 0
    for start, rows in row_chunks(array):
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            finite = np.isfinite(rows.astype(np.float32, copy=False))
        if finite.all():
            continue
        if unused is not None:
            finite[unused[start : start + len(rows)]] = True
            if finite.all():
                continue
        if first is None:
            row, *entry = (int(i) for i in np.argwhere(~finite)[0])
            first = (start + row, *entry)
        bad += finite.size - int(np.count_nonzero(finite))
    return None if first is None else (first, bad)


def check_finite(
    name: str, array: NDArray[Any], source: str, unused: NDArray[np.bool_] | None = None
) -> None:
    """Check an array of a file, under the file's own name for it.

    Args:
        name: Of the array.
        array: As `find_not_finite`.
        source: Where it is from, for messages.
        unused: As `find_not_finite`.
    Raises:
        ValueError: Naming the source, the array and the row in it.
    """
    found = find_not_finite(array, unused)
    if found is not None:
        what = describe_not_finite(name, array, found, f"row {found[0][0]}")
        raise ValueError(f"unusable dataset {source}: {what}")


def describe_not_finite(
    name: str, array: NDArray[Any], found: tuple[tuple[int, ...], int], place: str
) -> str:
    """Say what `find_not_finite` found.

    Args:
        name: Of the array.
        array: It.
        found: What was found.
        place: Where the row is, in words.
    """
    index, bad = found
    where = place + "".join(f", entry {entry}" for entry in index[1:])
    return (
        f"{name} is {array[index]} at {where} ({bad} such values in all); "
        "remove or repair these rows"
    )
