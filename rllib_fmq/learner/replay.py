"""Replay: one table of primitive transitions from which windows of H steps are drawn."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, MutableMapping
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_fmq.data.chunks import row_chunks
from rllib_fmq.learner.mapped_rows import MappedRows, Scale, unscaled
from rllib_fmq.learner.online_rows import NextRows, OnlineRows, ReplayCounts
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
        self._open: dict[str, int] = {}
        """Newest row of each unfinished episode, a number in ``online_numbers``; oldest first."""
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
    def online_numbers(self) -> range:
        """Online rows that are here, numbered from 0 in the order in which they were added."""
        return range(max(0, self.num_online - self.capacity), self.num_online)

    @property
    def counts(self) -> ReplayCounts:
        """All that ``restore`` needs besides the online rows."""
        return ReplayCounts(
            num_offline=self.num_offline,
            num_added=self.num_added,
            capacity=self._base + self.capacity,
            on_disk=self._base,
            open=dict(self._open),
        )

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
        rows = self._places(range(self.num_online, self.num_online + num))
        self._ring.release_tails(rows)
        ended = np.zeros(num, dtype=bool)
        ended[-1] = terminated
        self._write(self._tensor(rows), obs[:-1], actions, rewards, ended)
        before = self._open.pop(episode_id, NO_ROW)
        # These rows may overwrite it, in a table shorter than an episode.
        if before != NO_ROW and self.num_online + num - before <= self.capacity:
            place = self._places(range(before, before + 1))
            self._ring.release_tails(place)
            rows = np.append(place, rows)
        slot = self.tails.put(self._tensor(np.asarray(obs)[-1:]))
        self._ring.set_links(rows, np.append(rows[1:], NO_ROW - slot))
        self.num_added += num
        if not done:
            self._open[episode_id] = self.num_online - 1
        self._forget_overwritten()

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

    def online_parts(self, first: int, size: int) -> Iterator[OnlineRows]:
        """Online rows from one on, in parts that are copied as they are asked for.

        Args:
            first: One of ``online_numbers``, or the number after the last: then there is none.
            size: Rows of a part at most, >= 1.
        """
        joins = self._joins(first)
        for start in range(first, self.num_online, size):
            numbers = range(start, min(start + size, self.num_online))
            rows = self._places(numbers)
            index = self._tensor(rows)
            link = self._ring.host_link[rows]
            ended = link <= NO_ROW
            slots = self._tensor((NO_ROW - link[ended]).astype(np.int64))
            within = (joins[:, 1] >= numbers.start) & (joins[:, 1] < numbers.stop)
            yield OnlineRows(
                first=start,
                obs=self.obs[index].cpu().numpy(),
                actions=self.actions[index].cpu().numpy(),
                rewards=self.rewards[index].cpu().numpy(),
                terminated=self.terminated[index].cpu().numpy(),
                joins=joins[within],
                ends=start + np.flatnonzero(ended),
                end_obs=self.tails.obs[slots].cpu().numpy(),
            )

    def restore(self, counts: ReplayCounts, parts: Iterable[OnlineRows]) -> None:
        """Put saved online rows behind the offline rows that are already here.

        Args:
            counts: Of the replay that was saved.
            parts: Its rows in their order, of which those that no longer fit are left out.
        Raises:
            ValueError: If this table has other offline rows or another capacity, if it has
                already been written to online, which may have replaced offline rows, or if the
                parts do not fit together. In the last case, and if reading a part fails, this
                table cannot be used any more.
        """
        self._check_fits(counts)
        self.num_added = counts.num_added  # first: after an error it must not be taken for fresh
        kept = self.online_numbers
        self._ring.release_tails(self._places(kept))
        following = NextRows(kept)
        for part in parts:
            old = max(0, kept.start - part.first)
            places = self._tensor(self._places(range(part.first + old, part.stop)))
            columns = (part.obs, part.actions, part.rewards, part.terminated)
            self._write(places, *(column[old:] for column in columns))
            following.add(part)
        numbers, end_obs = following.result()
        links = (self._ring_offset + numbers) % self.capacity
        if len(end_obs):
            links[numbers == NO_ROW] = NO_ROW - self.tails.put(self._tensor(end_obs))
        self._ring.set_links(self._places(kept), links)
        self._open = dict(sorted(counts.open.items(), key=itemgetter(1)))
        self._forget_overwritten()

    def _check_fits(self, counts: ReplayCounts) -> None:
        if self.num_online:
            raise ValueError(
                f"this replay already holds {self.num_online} online transitions: restore into a "
                "fresh one, filled with the offline data only."
            )
        capacity = self._base + self.capacity
        never_wrapped = counts.num_added <= min(capacity, counts.capacity)
        same_ring = (capacity, self._base) == (counts.capacity, counts.on_disk)
        if counts.num_offline != self.num_offline or not (never_wrapped or same_ring):
            raise ValueError(
                f"the checkpoint's replay has {counts.num_offline} offline rows and room for "
                f"{counts.capacity}, this run {self.num_offline} and {capacity}: resume "
                "with the same dataset, replay_capacity and online_env_steps."
            )

    def _forget_overwritten(self) -> None:
        """Episodes that a fault or a dead process cut off would be unfinished for ever."""
        oldest = self.online_numbers.start
        while self._open and self._open[name := next(iter(self._open))] < oldest:
            del self._open[name]

    def keep_open_episodes(self, ids: Collection[str]) -> int:
        """Do not link later fragments to unfinished episodes, but for some of them.

        Args:
            ids: Of the episodes that go on.
        Returns:
            How many others were unfinished.
        """
        before = len(self._open)
        self._open = {name: row for name, row in self._open.items() if name in ids}
        return before - len(self._open)

    @property
    def _ring_offset(self) -> int:
        """Place in the ring of online row 0."""
        return self.num_offline - self._base

    def _places(self, numbers: range) -> NDArray[np.int64]:
        """Places in the ring of consecutive online rows, which are no more than its capacity."""
        start = (self._ring_offset + numbers.start) % self.capacity
        places = np.arange(start, start + len(numbers))
        places[self.capacity - start :] -= self.capacity
        return places

    def _joins(self, first: int) -> NDArray[np.int64]:
        """The pairs of ``OnlineRows.joins`` for parts that hold the rows from ``first`` on."""
        kept = self.online_numbers
        rows = self._places(kept)
        link = self._ring.host_link[rows]
        unusual = link != rows + 1
        if first > kept.start:
            unusual[first - 1 - kept.start] = True  # its next one may be a neighbour in a new part
        index = np.flatnonzero(unusual & (link > NO_ROW))
        numbers = kept.start + index
        following = numbers + (link[index] - rows[index]) % self.capacity
        told = (following >= first) & ((following != numbers + 1) | (numbers < first))
        return np.stack([numbers[told], following[told]], axis=1)

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
