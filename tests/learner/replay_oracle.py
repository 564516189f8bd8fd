"""A plain list of episodes, from which every window of a replay can be made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rllib_fmq.data import TransitionTable
from rllib_fmq.learner.mapped_rows import MappedRows
from rllib_fmq.learner.replay import ReplayTable
from rllib_fmq.nn.objectives import WindowBatch

OBS_DIM, ACTION_DIM = 3, 2


@dataclass
class Episode:
    """One trajectory whose numbers all follow from its own number and the step."""

    number: int
    terminations: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.terminations)

    def obs(self, step: int) -> np.ndarray:
        return np.array([self.number, step, 0.5 * self.number - step], np.float32)

    def action(self, step: int) -> np.ndarray:
        return np.array([0.01 * self.number + 0.001, -0.01 * (step + 1)], np.float32)

    def reward(self, step: int) -> float:
        return 1.0 + self.number + 0.125 * step

    def columns(self, start: int, stop: int) -> dict[str, np.ndarray]:
        steps = range(start, stop)
        return {
            "obs": np.array([self.obs(i) for i in range(start, stop + 1)]),
            "actions": np.array([self.action(i) for i in steps]),
            "rewards": np.array([self.reward(i) for i in steps]),
        }


class Oracle:
    """What a replay of some capacity must hold: episodes, and the last rows written."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.fixed = 0
        """First rows, which are never overwritten."""
        self.episodes: list[Episode] = []
        self.rows: list[tuple[int, int]] = []

    def new_episode(self) -> Episode:
        self.episodes.append(Episode(len(self.episodes)))
        return self.episodes[-1]

    def append(self, episode: Episode, terminations: list[bool]) -> None:
        for flag in terminations:
            self.rows.append((episode.number, len(episode)))
            episode.terminations.append(flag)

    def kept(self) -> set[tuple[int, int]]:
        ring = self.rows[self.fixed :][-(self.capacity - self.fixed) :]
        return set(self.rows[: self.fixed] + ring)

    def window(self, number: int, step: int, horizon: int) -> dict[str, Any]:
        """The window at a row, by hand."""
        episode = self.episodes[number]
        taken = range(step, min(step + horizon, len(episode)))
        padding = horizon - len(taken)
        blank = np.zeros((padding, ACTION_DIM), np.float32)
        return {
            "obs": episode.obs(step),
            "actions": np.concatenate(
                [np.array([episode.action(i) for i in taken]), blank]
            ).ravel(),
            "valid": np.repeat([1.0] * len(taken) + [0.0] * padding, ACTION_DIM),
            "rewards": np.array([episode.reward(i) for i in taken] + [0.0] * padding),
            "terminated": np.array(
                [episode.terminations[i] for i in taken] + [False] * padding, bool
            ),
            "next_obs": episode.obs(taken[-1] + 1),
            "complete": float(padding == 0),
        }

    def check(self, batch: WindowBatch, horizon: int) -> set[tuple[int, int]]:
        """Compare every window with the one made by hand; returns the rows that were drawn."""
        drawn = [(int(number), int(step)) for number, step in batch.obs[:, :2].tolist()]
        assert self.kept().issuperset(drawn)
        windows = {row: self.window(*row, horizon) for row in set(drawn)}
        for name, column in zip(WindowBatch._fields, batch, strict=True):
            expected = np.array([windows[row][name] for row in drawn])
            np.testing.assert_allclose(column.numpy(), expected, rtol=1e-6, err_msg=name)
        return set(drawn)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def offline_table(oracle: Oracle, trajectories: list[list[bool]]) -> TransitionTable:
    """Trajectories, each given by its steps' terminations, as a dataset and in the oracle."""
    added = []
    for terminations in trajectories:
        episode = oracle.new_episode()
        oracle.append(episode, terminations)
        added.append(episode)
    parts = [episode.columns(0, len(episode)) for episode in added]
    ends = np.cumsum([len(episode) for episode in added]) - 1
    episode_end = np.zeros(ends[-1] + 1, bool)
    episode_end[ends] = True
    return TransitionTable.from_columns(
        obs=np.concatenate([p["obs"][:-1] for p in parts]),
        actions=np.concatenate([p["actions"] for p in parts]),
        rewards=np.concatenate([p["rewards"] for p in parts]),
        terminated=np.concatenate([e.terminations for e in added]),
        episode_end=episode_end,
        final_obs=np.array([p["obs"][-1] for p in parts]),
        source="oracle",
    )


def add_fragment(
    table: ReplayTable, oracle: Oracle, episode: Episode, length: int, end: str = "open"
) -> None:
    """Append ``length`` steps; ``end`` is "open", "terminated" or "truncated"."""
    start = len(episode)
    oracle.append(episode, [False] * (length - 1) + [end == "terminated"])
    table.add_fragment(
        f"episode-{episode.number}",
        **episode.columns(start, start + length),
        terminated=end == "terminated",
        done=end != "open",
    )


def make(
    capacity: int, *trajectories: list[bool], mapped: bool = False
) -> tuple[ReplayTable, Oracle]:
    """A replay with room for ``capacity`` rows, offline ones included, and its oracle."""
    oracle = Oracle(capacity)
    if not trajectories:
        return ReplayTable(capacity, OBS_DIM, ACTION_DIM), oracle
    data = offline_table(oracle, list(trajectories))
    if not mapped:
        table = ReplayTable(capacity, OBS_DIM, ACTION_DIM)
        table.add_offline(data.columns())
        return table, oracle
    oracle.fixed = len(oracle.rows)
    room = capacity - oracle.fixed
    return ReplayTable(room, OBS_DIM, ACTION_DIM, offline=MappedRows(data)), oracle


def window_at(table: ReplayTable, number: int, step: int, horizon: int) -> WindowBatch:
    """The window that starts at one row, found by drawing."""
    batch = table.sample(50 * len(table), horizon, generator())
    hits = ((batch.obs[:, 0] == number) & (batch.obs[:, 1] == step)).nonzero()
    assert len(hits), f"row {number, step} was not drawn"
    return WindowBatch(*(column[hits[0, 0]] for column in batch))


def replay_ops(
    tables: list[ReplayTable],
    oracle: Oracle,
    history: list[tuple[int, int, str]],
    running: dict[int, Episode],
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Play interleaved fragments of several environments into some tables."""
    for env, length, end in history:
        length = min(length, oracle.capacity - oracle.fixed)
        episode = running.get(env) or oracle.new_episode()
        running[env] = episode
        start = len(episode)
        oracle.append(episode, [False] * (length - 1) + [end == "terminated"])
        for table in tables:
            table.add_fragment(
                f"episode-{episode.number}",
                **episode.columns(start, start + length),
                terminated=end == "terminated",
                done=end != "open",
            )
        if end != "open":
            del running[env]
        after_each()


def transfer(source: ReplayTable, target: ReplayTable, size: int = 7) -> None:
    """Restore the online rows of one replay into another, in parts of a few rows."""
    target.restore(source.counts, source.online_parts(source.online_numbers.start, size))


def assert_same_windows(first: ReplayTable, second: ReplayTable, horizon: int) -> WindowBatch:
    """One generator must draw the same from both; returns what it drew."""
    one, other = (table.sample(32, horizon, generator(1)) for table in (first, second))
    for name, a, b in zip(WindowBatch._fields, one, other, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b), name
    return other
