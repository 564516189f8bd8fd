"""Rows of an array, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

_CHUNK = 1 << 18
"""Numbers looked at in one go: their temporaries stay in the processor's cache."""


def row_chunks(column: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Cut a column into views of rows small enough to compute with.

    Args:
        column: Shape (N, ...).
    Yields:
        Index of the first row, and the rows.
    """
    step = max(1, _CHUNK * len(column) // max(1, column.size))
    for start in range(0, len(column), step):
        yield start, column[start : start + step]
