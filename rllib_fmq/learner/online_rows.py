"""Online rows as checkpoints hold them: numbered in the order in which they were added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.learner.ring_rows import NO_ROW


class OnlineRows(NamedTuple):
    """n consecutive online rows, and what follows them.

    Numbers count from 0 in the order of adding, whatever the row's place in the ring. The next
    row of an episode is the neighbour, unless ``ends`` or ``joins`` say otherwise. A row that was
    the newest of its episode when its part was written is among the part's ends for ever: what
    came to follow it is a join of the later part that holds the next row.
    """

    first: int
    """Number of the first row."""
    obs: NDArray[np.float32]
    """Shape (n, o)."""
    actions: NDArray[np.float32]
    """In [-1, 1], shape (n, d)."""
    rewards: NDArray[np.float32]
    """Shape (n,)."""
    terminated: NDArray[np.bool_]
    """Shape (n,)."""
    joins: NDArray[np.int64]
    """Pairs of a row, of this or an earlier part, and its next row, one of these: shape (J, 2)."""
    ends: NDArray[np.int64]
    """Those of these rows that had no next one, shape (K,)."""
    end_obs: NDArray[np.float32]
    """What was observed after them, shape (K, o)."""

    @property
    def stop(self) -> int:
        """Number after the last row's."""
        return self.first + len(self.rewards)


@dataclass(frozen=True)
class ReplayCounts:
    """What a replay is besides its online rows."""

    num_offline: int
    """Rows of the dataset."""
    num_added: int
    """Rows ever written, those of the dataset included."""
    capacity: int
    """Rows at most, those on disk included."""
    on_disk: int
    """Offline rows that are not in the ring."""
    open: dict[str, int]
    """Number of the newest row of each unfinished episode, by the episode's id."""


class NextRows:
    """What follows each of some consecutive online rows, put together part by part.

    Args:
        numbers: The rows. What parts say of older ones does not count.
    """

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers
        self._following = np.arange(numbers.start + 1, numbers.stop + 1)
        self._ends: list[NDArray[np.int64]] = []
        self._end_obs: list[NDArray[np.float32]] = []

    def add(self, part: OnlineRows) -> None:
        """Take up a part; they come in the order of their rows."""
        start = self._numbers.start
        held = part.ends >= start
        self._ends.append(part.ends[held] - start)
        self._end_obs.append(part.end_obs[held])
        self._following[self._ends[-1]] = NO_ROW
        joins = part.joins[part.joins[:, 0] >= start]
        self._following[joins[:, 0] - start] = joins[:, 1]

    def result(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The numbers of the next rows, and the observations where there is none.

        Returns:
            One number for each row, -1 where there is none; and for each -1, in their order, the
            observation, shape (K, o).
        Raises:
            ValueError: If a next row is none of these.
        """
        following = self._following
        if following.max(initial=NO_ROW) >= self._numbers.stop:
            raise ValueError(
                "the checkpoint's replay is damaged: it does not say what follows its newest row. "
                "Restore an earlier checkpoint."
            )
        if not self._ends:
            return following, np.zeros((0, 0), np.float32)
        still = following[np.concatenate(self._ends)] == NO_ROW
        return following, np.concatenate(self._end_obs)[still]


def from_version_1(state: Mapping[str, Any]) -> tuple[ReplayCounts, OnlineRows]:
    """The replay of a checkpoint of version 1, whose rows are named by their place in the ring.

    Args:
        state: ``replay`` of the learner's state.
    """
    on_disk = state.get("on_disk", 0)
    counts = ReplayCounts(
        num_offline=state["num_offline"],
        num_added=state["num_added"],
        capacity=state["capacity"],
        on_disk=on_disk,
        open={i: added - 1 - state["num_offline"] for i, (_, added) in state["open"].items()},
    )
    ring = counts.capacity - on_disk
    num_online = counts.num_added - counts.num_offline
    numbers = np.arange(num_online - len(state["rewards"]), num_online)
    place = (counts.num_offline - on_disk + numbers) % ring
    link = np.asarray(state["next_row"])
    ended = link == NO_ROW
    following = numbers + (link - on_disk - place) % ring
    joined = ~ended & (following != numbers + 1)
    return counts, OnlineRows(
        first=num_online - len(numbers),
        obs=np.asarray(state["obs"]),
        actions=np.asarray(state["actions"]),
        rewards=np.asarray(state["rewards"]),
        terminated=np.asarray(state["terminated"]),
        joins=np.stack([numbers[joined], following[joined]], axis=1),
        ends=numbers[ended],
        end_obs=np.asarray(state["tail_obs"]),
    )
