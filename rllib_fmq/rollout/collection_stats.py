"""What an iteration tells of collection and learning side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class CollectionStats:
    """Sums over one online iteration."""

    def __init__(self) -> None:
        self._lags: list[int] = []
        self._num_versions = 0
        self._seconds = {"sample_wait": 0.0, "update": 0.0}

    def add_lag(self, lag: int, num_fragments: int) -> None:
        """Note fragments that learners get.

        Args:
            lag: Versions by which the policy that collected them is behind the newest one.
            num_fragments: How many.
        """
        self._lags += [lag] * num_fragments

    def add_version(self) -> None:
        """Note that the policy has changed: requests from now on carry a newer one."""
        self._num_versions += 1

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the time of a block.

        Args:
            what: "sample_wait" or "update".
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[what] += time.perf_counter() - start

    def results(self) -> dict[str, Any]:
        """The metrics; those of lag are missing where no fragments came."""
        values: dict[str, Any] = {"num_policy_versions": self._num_versions}
        values |= {f"{what}_timer": seconds for what, seconds in self._seconds.items()}
        if self._lags:
            values["policy_lag_max"] = max(self._lags)
            values["policy_lag_mean"] = sum(self._lags) / len(self._lags)
        return values
