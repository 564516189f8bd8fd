"""Offline rows that stay on disk, in the files that they came from."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_fmq.data.table import TransitionTable
from rllib_fmq.learner.ring_rows import Windows

Scale = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def unscaled(actions: NDArray[np.float32]) -> NDArray[np.float32]:
    """For actions that are in [-1, 1] already."""
    return actions


class MappedRows:
    """A dataset's rows, read only, in the files that it came from.

    Of each episode only the number of its last row is kept in memory: the next row is the one
    that follows, up to there. What is read stays in the system's page cache while there is room.

    Args:
        table: Dataset, mapped (``load_columns``) or not.
        scale: From the environment's units of actions to [-1, 1].
    Raises:
        ValueError: If the last row does not end an episode.
    Source: ours.
    """

    def __init__(self, table: TransitionTable, scale: Scale = unscaled) -> None:
        table.validate_structure()
        self._table = table
        self._scale = scale
        small = table.num_steps <= np.iinfo(np.int32).max
        self._ends = np.flatnonzero(table.episode_end).astype(np.int32 if small else np.int64)
        for column in (table.obs, table.actions, table.rewards, table.terminated, table.final_obs):
            _read_single_pages(column)

    def __len__(self) -> int:
        return self._table.num_steps

    @property
    def num_bytes(self) -> int:
        """Memory that is taken beside the map."""
        return self._ends.nbytes

    def windows(self, rows: Tensor, horizon: int) -> Windows:
        """Windows that start at given rows.

        Args:
            rows: Shape (B,), int64, on the device that the windows are wanted on.
            horizon: H >= 1.
        """
        table = self._table
        start = rows.cpu().numpy()
        # Of the type of the ends: otherwise NumPy would convert all of those in every call.
        episode = np.searchsorted(self._ends, start.astype(self._ends.dtype))
        last = self._ends[episode].astype(np.int64)
        steps = start[:, None] + np.arange(horizon)
        within = steps <= last[:, None]
        index = np.minimum(steps, last[:, None])
        newest = index[:, -1]
        ended = newest == last
        next_obs = table.obs[np.where(ended, newest, newest + 1)]
        next_obs[ended] = table.final_obs[episode[ended]]
        gathered = (
            table.obs[start],
            self._scale(table.actions[index]),
            table.rewards[index],
            table.terminated[index],
            within,
            next_obs,
        )
        return Windows(*(torch.from_numpy(np.asarray(a)).to(rows.device) for a in gathered))


def _read_single_pages(column: NDArray[np.generic]) -> None:
    """Ask the system to read only the pages that are used: by default it reads on, up to 128 KB."""
    mapping = getattr(column, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_RANDOM"):
        mapping.madvise(mmap.MADV_RANDOM)
