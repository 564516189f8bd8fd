"""Replay: one table of primitive transitions from which windows of H steps are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_fmq.nn.objectives import WindowBatch

NO_ROW = -1


class ReplayTable:
    """Ring of transitions in column tensors, each row linked to the next of its episode.

    A window of H steps is H - 1 link hops, so the fragments of many interleaved
    environments, and the ring's wrap-around, need no contiguous episodes. The next
    observation is read through the link; where there is none (an episode's last stored
    row) it is kept apart in ``tails``. Rows are overwritten oldest first, and a row's
    predecessor is always older, so no link ever leads to an overwritten row.

    Args:
        capacity: Rows at most, >= 1.
        obs_dim: Size of an observation.
        action_dim: Size d of a primitive action.
        device: Where the columns live.
    Source: ours.
    """

    def __init__(
        self, capacity: int, obs_dim: int, action_dim: int, device: torch.device | str = "cpu"
    ) -> None:
        if capacity < 1:
            raise ValueError(f"replay capacity={capacity}: must hold at least one transition.")
        self.capacity = capacity
        self.device = torch.device(device)
        self.obs = torch.zeros(capacity, obs_dim, device=device)
        self.actions = torch.zeros(capacity, action_dim, device=device)
        self.rewards = torch.zeros(capacity, device=device)
        self.terminated = torch.zeros(capacity, dtype=torch.bool, device=device)
        self.next_row = torch.full((capacity,), NO_ROW, dtype=torch.long, device=device)
        self.tail = torch.full((capacity,), NO_ROW, dtype=torch.long, device=device)
        self.tails = torch.zeros(64, obs_dim, device=device)
        # The host keeps its own account of tails, so that writing needs no device sync.
        self._tail_of_row: dict[int, int] = {}
        self._free_tails: list[int] = list(range(63, -1, -1))
        self._open: dict[str, tuple[int, int]] = {}
        self.size = 0
        self.num_offline = 0
        self.num_added = 0
        """Rows ever written; the next one goes to ``num_added % capacity``."""

    def __len__(self) -> int:
        return self.size

    @property
    def num_online(self) -> int:
        """Rows ever written after the offline data."""
        return self.num_added - self.num_offline

    def add_offline(
        self,
        obs: NDArray[np.float32],
        actions: NDArray[np.float32],
        rewards: NDArray[np.float32],
        terminated: NDArray[np.bool_],
        episode_end: NDArray[np.bool_],
        final_obs: NDArray[np.float32],
    ) -> None:
        """Fill an empty table with a dataset.

        Args:
            obs: Shape (N, o).
            actions: In [-1, 1], shape (N, d).
            rewards: Shape (N,).
            terminated: Shape (N,).
            episode_end: Last row of each recorded trajectory, shape (N,).
            final_obs: Observation after each of those, in order, shape (E, o).
        Raises:
            ValueError: If the table is not empty or the data do not fit into it.
        """
        num = len(obs)
        if self.num_added:
            raise ValueError("the offline data must be loaded first, into an empty replay.")
        if num > self.capacity:
            raise ValueError(
                f"the dataset has {num} transitions but replay_capacity={self.capacity}: "
                "raise replay_capacity or use a smaller dataset."
            )
        rows = slice(0, num)
        self._write(rows, obs, actions, rewards, terminated)
        ends = np.flatnonzero(episode_end)
        link = np.arange(1, num + 1)
        link[ends] = NO_ROW
        self.next_row[rows] = self._tensor(link)
        self._reserve_tails(len(ends))
        slots = [self._free_tails.pop() for _ in ends]
        self._tail_of_row.update(zip(ends.tolist(), slots, strict=True))
        self.tail[self._tensor(ends)] = self._tensor(np.asarray(slots, dtype=np.int64))
        self.tails[self._tensor(np.asarray(slots, dtype=np.int64))] = self._tensor(final_obs)
        self.size = self.num_added = self.num_offline = num

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
        rows = (self.num_added + np.arange(num)) % self.capacity
        for row in rows.tolist():
            self._release_tail(row)
        ended = np.zeros(num, dtype=bool)
        ended[-1] = terminated
        index = self._tensor(rows)
        self._write(index, obs[:-1], actions, rewards, ended)
        link = np.append(rows[1:], NO_ROW)
        self.next_row[index] = self._tensor(link)
        self.tail[index] = NO_ROW
        self._link_to_open(episode_id, int(rows[0]), num)
        self.num_added += num
        self.size = min(self.capacity, self.size + num)
        last = int(rows[-1])
        self._store_tail(last, obs[-1])
        if done:
            self._open.pop(episode_id, None)
        else:
            self._open[episode_id] = (last, self.num_added)

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
        if self.size == 0:
            raise ValueError(
                "the replay is empty: give a dataset, or collect online steps before updating."
            )
        row = torch.randint(
            self.size, (batch_size,), generator=generator, device=self.device, dtype=torch.long
        )
        valid = torch.ones_like(row, dtype=torch.bool)
        rows, valids = [row], [valid]
        for _ in range(horizon - 1):
            link = self.next_row[row]
            valid = valid & (link != NO_ROW)
            row = torch.where(valid, link, row)
            rows.append(row)
            valids.append(valid)
        index, mask = torch.stack(rows, dim=1), torch.stack(valids, dim=1)
        weight = mask.to(self.rewards.dtype)
        link, tail = self.next_row[row], self.tail[row]
        next_obs = torch.where(
            (link != NO_ROW).unsqueeze(1),
            self.obs[link.clamp(min=0)],
            self.tails[tail.clamp(min=0)],
        )
        actions = self.actions[index] * weight.unsqueeze(-1)
        return WindowBatch(
            obs=self.obs[index[:, 0]],
            actions=actions.flatten(1),
            valid=weight.repeat_interleave(actions.shape[-1], dim=1),
            rewards=self.rewards[index] * weight,
            terminated=self.terminated[index] & mask,
            next_obs=next_obs,
            complete=weight[:, -1],
        )

    def get_state(self) -> dict[str, Any]:
        """The online rows and what links them; offline rows are read again from their source."""
        online = np.arange(max(self.num_offline, self.num_added - self.capacity), self.num_added)
        index = self._tensor(online % self.capacity)
        tail_rows = {row: slot for row, slot in self._tail_of_row.items()}
        kept = [row for row in (online % self.capacity).tolist() if row in tail_rows]
        slots = self._tensor(np.asarray([tail_rows[row] for row in kept], dtype=np.int64))
        return {
            "num_offline": self.num_offline,
            "num_added": self.num_added,
            "capacity": self.capacity,
            "obs": self.obs[index].cpu().numpy(),
            "actions": self.actions[index].cpu().numpy(),
            "rewards": self.rewards[index].cpu().numpy(),
            "terminated": self.terminated[index].cpu().numpy(),
            "next_row": self.next_row[index].cpu().numpy(),
            "tail_rows": np.asarray(kept, dtype=np.int64),
            "tail_obs": self.tails[slots].cpu().numpy(),
            "open": dict(self._open),
        }

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
        fits = max(state["num_added"], state["num_offline"]) <= min(
            self.capacity, state["capacity"]
        )
        if state["num_offline"] != self.num_offline or not (
            fits or state["capacity"] == self.capacity
        ):
            raise ValueError(
                f"the checkpoint's replay has {state['num_offline']} offline rows and room for "
                f"{state['capacity']}, this run {self.num_offline} and {self.capacity}: resume "
                "with the same dataset, replay_capacity and online_env_steps."
            )
        first = max(self.num_offline, state["num_added"] - self.capacity)
        rows = np.arange(first, state["num_added"]) % self.capacity
        for row in rows.tolist():
            self._release_tail(row)
        index = self._tensor(rows)
        self._write(index, state["obs"], state["actions"], state["rewards"], state["terminated"])
        self.next_row[index] = self._tensor(state["next_row"])
        self.tail[index] = NO_ROW
        self.num_added = state["num_added"]
        self.size = min(self.capacity, self.num_added)
        for row, obs in zip(state["tail_rows"].tolist(), state["tail_obs"], strict=True):
            self._store_tail(row, obs)
        self._open = dict(state["open"])

    def forget_open_episodes(self) -> None:
        """Later fragments of now unfinished episodes will not be linked (runners restarted)."""
        self._open.clear()

    def _write(
        self,
        rows: slice | Tensor,
        obs: NDArray[Any],
        actions: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any],
    ) -> None:
        self.obs[rows] = self._tensor(obs)
        self.actions[rows] = self._tensor(actions)
        self.rewards[rows] = self._tensor(rewards)
        self.terminated[rows] = self._tensor(terminated)

    def _link_to_open(self, episode_id: str, first_row: int, num: int) -> None:
        last, written = self._open.get(episode_id, (NO_ROW, 0))
        # The row may have been overwritten since, in a table shorter than an episode.
        if last != NO_ROW and self.num_added + num - written < self.capacity:
            self.next_row[last] = first_row
            self._release_tail(last)

    def _store_tail(self, row: int, obs: NDArray[Any]) -> None:
        self._reserve_tails(1)
        slot = self._free_tails.pop()
        self._tail_of_row[row] = slot
        self.tail[row] = slot
        self.tails[slot] = self._tensor(np.asarray(obs))

    def _release_tail(self, row: int) -> None:
        slot = self._tail_of_row.pop(row, None)
        if slot is not None:
            self._free_tails.append(slot)
            self.tail[row] = NO_ROW

    def _reserve_tails(self, num: int) -> None:
        old = self.tails.shape[0]
        if len(self._free_tails) >= num:
            return
        new = max(2 * old, old + num)
        self.tails = torch.cat([self.tails, self.tails.new_zeros(new - old, self.tails.shape[1])])
        self._free_tails.extend(range(new - 1, old - 1, -1))

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        array = np.asarray(array)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        # Arrays out of Ray's object store are read-only, of which torch warns.
        return torch.as_tensor(np.require(array, requirements=("C", "W")), device=self.device)
