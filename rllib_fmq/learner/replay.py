"""Replay: one table of primitive transitions from which windows of H steps are drawn."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_fmq.data.chunks import row_chunks
from rllib_fmq.learner.mapped_rows import MappedRows, Scale, unscaled
from rllib_fmq.learner.ring_rows import NO_ROW, RingRows
from rllib_fmq.nn.objectives import WindowBatch


class ReplayTable:
    """Ring of transitions in column tensors, each row linked to the next of its episode.

    A window of H steps is H - 1 link hops, so the fragments of many interleaved
    environments, and the ring's wrap-around, need no contiguous episodes. The next
    observation is read through the link; where there is none (an episode's last stored
    row) the link names the place in ``tails`` where it is kept. Rows are overwritten oldest
    first, and a row's predecessor is always older, so no link ever leads to an overwritten
    row.

    Offline rows are the ring's first ones, or, where ``offline`` is given, stay on disk: they
    come before the ring's in the order of rows, are drawn like them, and are never overwritten.

    Args:
        capacity: Rows of the ring at most, >= 1.
        obs_dim: Size of an observation.
        action_dim: Size d of a primitive action.
        device: Where the columns live.
        offline: Offline rows that stay on disk.
    Source: ours.
    """

    def __init__(
        self,
        capacity: int,
        obs_dim: int,
        action_dim: int,
        device: torch.device | str = "cpu",
        *,
        offline: MappedRows | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"replay capacity={capacity}: must hold at least one transition.")
        if capacity > np.iinfo(np.int32).max:
            raise ValueError(f"replay capacity={capacity}: must be below 2^31.")
        self.capacity = capacity
        self.device = torch.device(device)
        self.offline = offline
        self._base = 0 if offline is None else len(offline)
        """Number of the ring's first row."""
        self._ring = RingRows(capacity, obs_dim, action_dim, device)
        self.obs, self.actions = self._ring.obs, self._ring.actions
        self.rewards, self.terminated = self._ring.rewards, self._ring.terminated
        self.link, self.tails = self._ring.link, self._ring.tails
        self._open: dict[str, tuple[int, int]] = {}
        self.num_offline = self.num_added = self._base
        """``num_added``: rows ever written."""

    def __len__(self) -> int:
        return self._base + self._ring_size

    @property
    def _ring_size(self) -> int:
        return min(self.capacity, self.num_added - self._base)

    @property
    def num_online(self) -> int:
        """Rows ever written after the offline data."""
        return self.num_added - self.num_offline

    @property
    def num_bytes(self) -> int:
        """Memory of all columns when the ring is full, without rows that stay on disk."""
        return self._ring.num_bytes + (0 if self.offline is None else self.offline.num_bytes)

    def add_offline(
        self, columns: MutableMapping[str, NDArray[Any]], scale: Scale = unscaled
    ) -> None:
        """Fill an empty ring with a dataset.

        Args:
            columns: Those of ``TransitionTable``. Each is taken out once it is copied, so that
                only one of them need be in memory twice.
            scale: From the columns' units of actions to [-1, 1].
        Raises:
            ValueError: If the ring is not empty or the data do not fit into it.
        """
        num = len(columns["obs"])
        if self.num_added:
            raise ValueError("the offline data must be loaded first, into an empty replay.")
        if num > self.capacity:
            raise ValueError(
                f"the dataset has {num} transitions but replay_capacity={self.capacity}: "
                "raise replay_capacity or use a smaller dataset."
            )
        for name in ("obs", "actions", "rewards", "terminated"):
            target: Tensor = getattr(self, name)
            source = columns.pop(name)
            for start, rows in row_chunks(source):
                rows = scale(rows) if name == "actions" else rows
                target[start : start + len(rows)] = self._tensor(rows)
        ends = np.flatnonzero(columns.pop("episode_end"))
        self._ring.chain(num, ends, self._tensor(columns.pop("final_obs")))
        self.num_added = self.num_offline = num

    def add_fragment(
        self,
        episode_id: str,
        obs: NDArray[Any],
        actions: NDArray[Any],
        rewards: NDArray[Any],
        terminated: bool,
        done: bool,
    ) -> None:
        """Append T consecutive steps of one episode, which may go on in a later fragment.

        Args:
            episode_id: Fragments of one id are linked in the order they come.
            obs: Observations before each step and after the last, shape (T + 1, o).
            actions: In [-1, 1], shape (T, d).
            rewards: Shape (T,).
            terminated: Whether the MDP ended at the last step. Truncation is not that.
            done: Whether the episode ended at the last step, for either reason.
        Raises:
            ValueError: If the lengths disagree or T is larger than the capacity.
        """
        num = len(rewards)
        if len(obs) != num + 1 or len(actions) != num or not 1 <= num <= self.capacity:
            raise ValueError(
                f"fragment of episode {episode_id!r}: {len(obs)} observations, {len(actions)} "
                f"actions, {num} rewards; expected T + 1, T, T with 1 <= T <= {self.capacity}."
            )
        rows = (self.num_added - self._base + np.arange(num)) % self.capacity
        self._ring.release_tails(rows)
        ended = np.zeros(num, dtype=bool)
        ended[-1] = terminated
        self._write(self._tensor(rows), obs[:-1], actions, rewards, ended)
        before, written = self._open.pop(episode_id, (NO_ROW, 0))
        # The row may have been overwritten since, in a table shorter than an episode.
        if before != NO_ROW and self.num_added + num - written < self.capacity:
            self._ring.release_tails(np.array([before]))
            rows = np.append(before, rows)
        slot = self.tails.put(self._tensor(np.asarray(obs)[-1:]))
        self._ring.set_links(rows, np.append(rows[1:], NO_ROW - slot))
        self.num_added += num
        if not done:
            self._open[episode_id] = (int(rows[-1]), self.num_added)

    def sample(
        self, batch_size: int, horizon: int, generator: torch.Generator | None = None
    ) -> WindowBatch:
        """Draw windows that start at uniformly drawn rows.

        Args:
            batch_size: B >= 1.
            horizon: H >= 1.
            generator: On this table's device.
        Returns:
            B windows; steps past an episode's end are zero and not ``valid``.
        Raises:
            ValueError: If the table is empty.
        """
        if len(self) == 0:
            raise ValueError(
                "the replay is empty: give a dataset, or collect online steps before updating."
            )
        row = self._ring.draw(batch_size, len(self), generator)
        if self.offline is None:
            return self._ring.windows(row, horizon)
        if not self._ring_size:
            return self.offline.windows(row, horizon).batch()
        on_disk = row < self._base
        parts = (
            self.offline.windows(row[on_disk], horizon).batch(),
            self._ring.windows(row[~on_disk] - self._base, horizon),
        )
        # Where each drawn row has come to stand when the two parts are put together.
        order = torch.argsort(torch.argsort(on_disk.logical_not().to(torch.int8), stable=True))
        return WindowBatch(*(torch.cat(pair)[order] for pair in zip(*parts, strict=True)))

    def get_state(self) -> dict[str, Any]:
        """The online rows and what links them; offline rows are read again from their source."""
        rows = self._online_rows(self.num_added)
        index = self._tensor(rows)
        link = self._ring.host_link[rows]
        kept = link <= NO_ROW
        slots = self._tensor((NO_ROW - link[kept]).astype(np.int64))
        return {
            "num_offline": self.num_offline,
            "num_added": self.num_added,
            "capacity": self._base + self.capacity,
            "on_disk": self._base,
            "obs": self.obs[index].cpu().numpy(),
            "actions": self.actions[index].cpu().numpy(),
            "rewards": self.rewards[index].cpu().numpy(),
            "terminated": self.terminated[index].cpu().numpy(),
            "next_row": np.where(kept, NO_ROW, link.astype(np.int64) + self._base),
            "tail_rows": rows[kept] + self._base,
            "tail_obs": self.tails.obs[slots].cpu().numpy(),
            "open": {name: (row + self._base, n) for name, (row, n) in self._open.items()},
        }

    def _online_rows(self, num_added: int) -> NDArray[np.int64]:
        first = max(self.num_offline, num_added - self.capacity)
        return (np.arange(first, num_added) - self._base) % self.capacity

    def set_state(self, state: dict[str, Any]) -> None:
        """Put saved online rows behind the offline rows that are already here.

        Raises:
            ValueError: If this table has other offline rows or another capacity, or has
                already been written to online, which may have replaced offline rows.
        """
        if self.num_online:
            raise ValueError(
                f"this replay already holds {self.num_online} online transitions: restore into a "
                "fresh one, filled with the offline data only."
            )
        capacity, written = self._base + self.capacity, state["num_added"]
        never_wrapped = written <= min(capacity, state["capacity"])
        same_ring = (capacity, self._base) == (state["capacity"], state.get("on_disk", 0))
        if state["num_offline"] != self.num_offline or not (never_wrapped or same_ring):
            raise ValueError(
                f"the checkpoint's replay has {state['num_offline']} offline rows and room for "
                f"{state['capacity']}, this run {self.num_offline} and {capacity}: resume "
                "with the same dataset, replay_capacity and online_env_steps."
            )
        rows = self._online_rows(written)
        self._ring.release_tails(rows)
        columns = (state[name] for name in ("obs", "actions", "rewards", "terminated"))
        self._write(self._tensor(rows), *columns)
        self.num_added = written
        self._ring.set_links(rows, np.asarray(state["next_row"]) - self._base)
        slots = self.tails.put(self._tensor(state["tail_obs"]))
        self._ring.set_links(np.asarray(state["tail_rows"]) - self._base, NO_ROW - slots)
        self._open = {name: (row - self._base, n) for name, (row, n) in state["open"].items()}

    def forget_open_episodes(self) -> None:
        """Later fragments of now unfinished episodes will not be linked (runners restarted)."""
        self._open.clear()

    def _write(
        self,
        rows: Tensor,
        obs: NDArray[Any],
        actions: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any],
    ) -> None:
        self.obs[rows] = self._tensor(obs)
        self.actions[rows] = self._tensor(actions)
        self.rewards[rows] = self._tensor(rewards)
        self.terminated[rows] = self._tensor(terminated)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        array = np.asarray(array)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        # Arrays out of Ray's object store, and mapped ones, are read-only, of which torch warns.
        return torch.as_tensor(np.require(array, requirements=("C", "W")), device=self.device)
