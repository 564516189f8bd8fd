"""The observations that follow no stored row: one for each row without a successor."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_INITIAL = 64


class TailStore:
    """Slots for observations, given out and taken back.

    Args:
        obs_dim: Size of an observation.
        device: Where they live.
    Source: ours.
    """

    def __init__(self, obs_dim: int, device: torch.device | str = "cpu") -> None:
        self._hold(torch.zeros(0, obs_dim, device=device))
        # The host keeps the account of free slots, so that writing needs no device sync.
        self._free = np.zeros(0, np.int32)
        self._num_free = 0

    def __len__(self) -> int:
        return self.obs.shape[0]

    def put(self, obs: Tensor) -> NDArray[np.int32]:
        """Store observations.

        Args:
            obs: Shape (n, obs_dim).
        Returns:
            Their slots, shape (n,).
        """
        num = obs.shape[0]
        if num > self._num_free:
            self._grow(num - self._num_free)
        self._num_free -= num
        slots: NDArray[np.int32] = self._free[self._num_free : self._num_free + num][::-1].copy()
        self.obs[torch.as_tensor(slots, dtype=torch.long, device=self.obs.device)] = obs
        return slots

    def release(self, slots: NDArray[np.int32]) -> None:
        """Take slots back; what is in them may be overwritten."""
        self._free[self._num_free : self._num_free + len(slots)] = slots
        self._num_free += len(slots)

    def _grow(self, missing: int) -> None:
        old = len(self)
        new = old + max(missing, old // 4, _INITIAL)  # a quarter: slots to spare cost memory
        self._hold(torch.cat([self.obs, self.obs.new_zeros(new - old, self.obs.shape[1])]))
        free = np.zeros(new, np.int32)
        free[: new - old] = np.arange(new - 1, old - 1, -1)
        free[new - old : new - old + self._num_free] = self._free[: self._num_free]
        self._free, self._num_free = free, self._num_free + new - old

    def _hold(self, obs: Tensor) -> None:
        self.obs = obs
        # The same memory for NumPy, where it can read it.
        self.host_obs: NDArray[np.float32] = (
            obs if obs.device.type == "cpu" else obs[:0].cpu()
        ).numpy()

    @property
    def num_bytes(self) -> int:
        """Memory that the slots take."""
        return self.obs.nbytes + self._free.nbytes
