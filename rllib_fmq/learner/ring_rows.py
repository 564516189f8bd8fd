"""The replay's rows in memory: a ring of transitions, and the windows that are read from it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_fmq.learner.tails import TailStore
from rllib_fmq.nn.objectives import WindowBatch

NO_ROW = -1


class Windows(NamedTuple):
    """Gathered rows of B windows of H steps; past an episode's end its last row is repeated."""

    obs: Tensor
    """Shape (B, o)."""
    actions: Tensor
    """In [-1, 1], shape (B, H, d)."""
    rewards: Tensor
    """Shape (B, H)."""
    terminated: Tensor
    """Shape (B, H), bool."""
    within: Tensor
    """Whether the step lies within the episode, shape (B, H), bool."""
    next_obs: Tensor
    """Observation after the last step within, shape (B, o)."""

    def batch(self) -> WindowBatch:
        """The same windows with zeros past an episode's end."""
        past = self.within.logical_not()
        weight = self.within.to(self.rewards.dtype)
        return WindowBatch(
            obs=self.obs,
            actions=self.actions.masked_fill(past.unsqueeze(-1), 0.0).flatten(1),
            valid=weight.repeat_interleave(self.actions.shape[-1], dim=1),
            rewards=self.rewards.masked_fill(past, 0.0),
            terminated=self.terminated & self.within,
            next_obs=self.next_obs,
            complete=weight[:, -1],
        )


class RingRows:
    """Columns of a ring of transitions, each row linked to the next of its episode.

    What a window needs of every step (action, reward, link, flags) lies side by side in one
    record: H neighbouring rows are one piece of memory and are copied as one. Observations,
    of which a window needs two, are a matrix of their own. The flag ``joined`` says that a row's
    next one is its neighbour, so a batch is checked by a search for a zero byte, and only windows
    that are not one piece are followed through their links. On a device other than the CPU all
    of them are, without a branch: to look at flags would be to wait for the device.

    Args:
        capacity: Rows, >= 1.
        obs_dim: Size of an observation.
        action_dim: Size d of a primitive action.
        device: Where the columns live.
    Source: ours.
    """

    def __init__(
        self, capacity: int, obs_dim: int, action_dim: int, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.tails = TailStore(obs_dim, device)
        self._action_dim = d = action_dim
        self._words = d + 3
        """Of a record, 4 bytes each."""
        self.obs = self._zeros(capacity, obs_dim)
        self._records = self._zeros(capacity, self._words)
        self.actions, self.rewards = self._records[:, :d], self._records[:, d]
        self.link = self._records.view(torch.int32)[:, d + 1]
        """Next row, or -1 - slot of the tail."""
        flags = self._records.view(torch.bool)[:, 4 * (d + 2) :]
        self.terminated, joined = flags[:, 0], flags[:, 1]
        self._drawn = torch.empty(0, dtype=torch.long, device=self.device)
        self._on_host = self.device.type == "cpu"
        if not self._on_host:
            # The host keeps the links too, so that writing needs no device sync.
            self.host_link = np.zeros(capacity, np.int32)
            return
        self.host_link = self.link.numpy()
        self._joined: NDArray[np.bool_] = joined.numpy()
        self._host_obs: NDArray[np.float32] = self.obs.numpy()
        self._host_records: NDArray[np.float32] = self._records.numpy()
        self._record = np.dtype(
            {
                "names": ["action", "reward", "link", "terminated", "joined"],
                "formats": [f"V{4 * d}", np.float32, np.int32, np.bool_, np.bool_],
                "offsets": [0, 4 * d, 4 * d + 4, 4 * d + 8, 4 * d + 9],
                "itemsize": 4 * self._words,
            }
        )
        self._prepare(0, 1)
        self._host_drawn: NDArray[np.int64] = self._drawn.numpy()

    def _zeros(self, rows: int, width: int) -> Tensor:
        # NumPy's zeros, unlike torch's, take memory only when they are first written to, and it
        # asks the system for huge pages.
        return torch.from_numpy(np.zeros((rows, width), np.float32)).to(self.device)

    @property
    def num_bytes(self) -> int:
        """Memory of the columns when all rows are written, and of the tails."""
        total = self.obs.nbytes + self._records.nbytes + self.tails.num_bytes
        return total if self._on_host else total + self.host_link.nbytes

    def chain(self, num: int, ends: NDArray[Any], final_obs: Tensor) -> None:
        """Link the first rows in their order.

        Args:
            num: How many.
            ends: Those that end an episode; the last of them all is one.
            final_obs: What is observed after these, shape (len(ends), o).
        """
        self.host_link[:num] = np.arange(1, num + 1, dtype=np.int32)
        self.host_link[ends] = NO_ROW - self.tails.put(final_obs)
        if self._on_host:
            self._joined[:num] = True
            self._joined[ends] = False
        else:
            self.link[:num] = torch.from_numpy(self.host_link[:num]).to(self.device)

    def set_links(self, rows: NDArray[Any], links: NDArray[Any]) -> None:
        """Say what follows rows: for each a row, or -1 - slot of the tail."""
        links = links.astype(np.int32)
        self.host_link[rows] = links
        if self._on_host:
            self._joined[rows] = links == rows + 1
        else:
            index = torch.as_tensor(rows, device=self.device)
            self.link[index] = torch.as_tensor(links, device=self.device)

    def release_tails(self, rows: NDArray[Any]) -> None:
        """Take back what is kept for rows that are now overwritten, or get a successor."""
        link = self.host_link[rows]
        self.tails.release(NO_ROW - link[link <= NO_ROW])
        self.host_link[rows] = 0
        if self._on_host:
            self._joined[rows] = False

    def draw(self, batch: int, end: int, generator: torch.Generator | None) -> Tensor:
        """Uniform numbers below ``end``: those of ``torch.randint``, in memory used again.

        Args:
            batch: B >= 1.
            end: >= 1.
            generator: On the ring's device.
        Returns:
            Shape (B,), int64; the next call overwrites it.
        """
        if self._drawn.shape[0] != batch:
            self._drawn = self._drawn.new_empty(batch)
            if self._on_host:
                self._host_drawn = self._drawn.numpy()
        return self._drawn.random_(0, end, generator=generator)

    def windows(self, row: Tensor, horizon: int) -> WindowBatch:
        """Windows that start at given rows.

        Args:
            row: Shape (B,), int64, on the ring's device.
            horizon: H >= 1.
        Returns:
            Tensors of their own memory; rewards and terminations are not contiguous.
        """
        if self._on_host:
            host_row = self._host_drawn if row is self._drawn else row.numpy()
            return self._host_windows(host_row, horizon)
        return self.followed(row, horizon).batch()

    def followed(self, row: Tensor, horizon: int) -> Windows:
        """Windows through the links alone, on any device."""
        link = self.link[row].long()
        rows, withins = [row], [torch.ones_like(row, dtype=torch.bool)]
        for _ in range(horizon - 1):
            # A row without a next one is repeated, and so never comes within again.
            within = link > NO_ROW
            row = torch.where(within, link, row)
            link = self.link[row].long()
            rows.append(row)
            withins.append(within)
        index = torch.stack(rows, dim=1)
        next_obs = torch.where(
            (link > NO_ROW).unsqueeze(1),
            self.obs[link.clamp(min=0)],
            self.tails.obs[(NO_ROW - link).clamp(min=0)],
        )
        return Windows(
            obs=self.obs[index[:, 0]],
            actions=self.actions[index],
            rewards=self.rewards[index],
            terminated=self.terminated[index],
            within=torch.stack(withins, dim=1),
            next_obs=next_obs,
        )

    def _prepare(self, batch: int, horizon: int) -> None:
        """Make what batches of one shape have in common."""
        self._shape = (batch, horizon)
        self._all_valid = np.ones((batch, horizon * self._action_dim), np.float32)
        self._all_complete = np.ones(batch, np.float32)
        # One item for each row that has H - 1 neighbours; they overlap in memory.
        size = self._host_records.strides[0]
        self._pieces: NDArray[np.void] = np.ndarray(
            max(0, len(self._host_records) - horizon + 1),
            np.dtype(f"V{horizon * size}"),
            self._host_records,
            strides=(size,),
        )

    def _host_windows(self, row: NDArray[np.int64], horizon: int) -> WindowBatch:
        # With data this small, calling a function costs more than its work: hence few of them,
        # and NumPy's, which are called in a fraction of the time of torch's.
        batch, d, words = len(row), self._action_dim, self._words
        if self._shape != (batch, horizon):
            self._prepare(batch, horizon)
        valid, complete = self._all_valid.copy(), self._all_complete.copy()
        try:
            pieces = self._pieces[row]
            next_obs, moved = None, []
        except IndexError:  # a window reaches beyond the ring's last row
            pieces = np.empty(batch, self._pieces.dtype)
            next_obs, moved = np.empty((batch, self.obs.shape[1]), np.float32), [*range(batch)]
        steps: NDArray[np.void] = np.ndarray((batch, horizon), self._record, pieces)
        numbers: NDArray[np.float32] = np.ndarray((batch, horizon * words), np.float32, pieces)
        if next_obs is None:
            links = steps["link"]
            next_obs = self._host_obs.take(links[:, -1], axis=0, mode="clip")
            joined = steps["joined"].tobytes()
            place = joined.find(0)
            while place >= 0:
                window, step = divmod(place, horizon)
                link = int(links[window, step])
                if link > NO_ROW:
                    moved.append(window)
                else:  # the episode ends here
                    next_obs[window] = self.tails.host_obs[NO_ROW - link]
                    if step < horizon - 1:
                        numbers[window, (step + 1) * words :] = 0.0
                        valid[window, (step + 1) * d :] = 0.0
                        complete[window] = 0.0
                place = joined.find(0, (window + 1) * horizon)
        if moved:
            within, numbers[moved], next_obs[moved] = self._follow(row[moved], horizon)
            valid[moved] = np.repeat(within, d, axis=1)
            complete[moved] = within[:, -1]
        actions = np.ndarray((batch, horizon * d), np.float32, steps["action"].copy())
        return WindowBatch(
            obs=torch.from_numpy(self._host_obs.take(row, axis=0)),
            actions=torch.from_numpy(actions),
            valid=torch.from_numpy(valid),
            rewards=torch.from_numpy(steps["reward"]),
            terminated=torch.from_numpy(steps["terminated"]),
            next_obs=torch.from_numpy(next_obs),
            complete=torch.from_numpy(complete),
        )

    def _follow(
        self, row: NDArray[np.int64], horizon: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
        """``followed`` on the host, for the few windows that are not one piece.

        Returns:
            Whether a step lies within the episode (B, H), the records, zero where it does not
            (B, H * words), and the observations after (B, o).
        """
        link = self.host_link[row]
        rows = np.empty((len(row), horizon), np.int64)
        within = np.ones(rows.shape, np.bool_)
        rows[:, 0] = row
        for step in range(1, horizon):
            within[:, step] = link > NO_ROW
            rows[:, step] = row = np.where(within[:, step], link, row)
            link = self.host_link[row]
        records = self._host_records[rows]
        records[~within] = 0.0
        next_obs = self._host_obs.take(link, axis=0, mode="clip")
        ended = link <= NO_ROW
        next_obs[ended] = self.tails.host_obs[NO_ROW - link[ended]]
        return within, records.reshape(len(row), -1), next_obs
