"""Means of scalars over the updates of a call, without waiting for any of them."""

from __future__ import annotations

import torch
from torch import Tensor


class MetricSums:
    """Adds up scalars where they are computed; they come to the host once, at the end.

    Source: ours.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._counts: dict[tuple[str, ...], int] = {}

    @torch.no_grad()
    def add(self, values: dict[str, Tensor]) -> None:
        """Count in one update's scalars.

        Args:
            values: All of one type and device.
        """
        names = tuple(values)
        stacked = torch.stack(list(values.values()))  # one call to add them all
        if names in self._sums:
            self._sums[names] += stacked
            self._counts[names] += 1
        else:
            self._sums[names], self._counts[names] = stacked, 1

    def means(self) -> dict[str, float]:
        """Name -> mean over the updates that had it; empty where there was none."""
        if not self._sums:
            return {}
        numbers = iter(torch.cat(list(self._sums.values())).tolist())
        totals: dict[str, float] = {}
        counts: dict[str, int] = {}
        for names, count in self._counts.items():
            for name in names:
                totals[name] = totals.get(name, 0.0) + next(numbers)
                counts[name] = counts.get(name, 0) + count
        return {name: total / counts[name] for name, total in totals.items()}
