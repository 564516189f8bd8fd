"""The replay against a plain list of episodes, and its errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_fmq import flow
from rllib_fmq.learner.replay import ReplayTable
from rllib_fmq.nn.objectives import WindowBatch

OBS_DIM, ACTION_DIM, GAMMA = 3, 2, 0.9


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
        return set(self.rows[-self.capacity :])

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


def add_offline(table: ReplayTable, oracle: Oracle, trajectories: list[list[bool]]) -> None:
    """Fill with trajectories, each given by its steps' terminations."""
    added = []
    for terminations in trajectories:
        episode = oracle.new_episode()
        oracle.append(episode, terminations)
        added.append(episode)
    parts = [episode.columns(0, len(episode)) for episode in added]
    ends = np.cumsum([len(episode) for episode in added]) - 1
    episode_end = np.zeros(ends[-1] + 1, bool)
    episode_end[ends] = True
    table.add_offline(
        obs=np.concatenate([p["obs"][:-1] for p in parts]),
        actions=np.concatenate([p["actions"] for p in parts]),
        rewards=np.concatenate([p["rewards"] for p in parts]).astype(np.float32),
        terminated=np.concatenate([e.terminations for e in added]),
        episode_end=episode_end,
        final_obs=np.array([p["obs"][-1] for p in parts]),
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


def make(capacity: int, *trajectories: list[bool]) -> tuple[ReplayTable, Oracle]:
    table, oracle = ReplayTable(capacity, OBS_DIM, ACTION_DIM), Oracle(capacity)
    if trajectories:
        add_offline(table, oracle, list(trajectories))
    return table, oracle


def window_at(table: ReplayTable, number: int, step: int, horizon: int) -> WindowBatch:
    """The window that starts at one row, found by drawing."""
    batch = table.sample(50 * len(table), horizon, generator())
    hits = ((batch.obs[:, 0] == number) & (batch.obs[:, 1] == step)).nonzero()
    assert len(hits), f"row {number, step} was not drawn"
    return WindowBatch(*(column[hits[0, 0]] for column in batch))


# --- Windows at the ends of episodes ------------------------------------------------------


def test_a_window_may_end_on_the_last_step() -> None:
    table, oracle = make(20, [False] * 5, [False] * 4)
    window = window_at(table, 0, 2, horizon=3)
    assert window.complete == 1.0
    assert window.valid.tolist() == [1.0] * 6
    np.testing.assert_array_equal(window.next_obs, oracle.episodes[0].obs(5))


def test_a_window_past_the_end_is_padded_and_does_not_enter_the_next_episode() -> None:
    table, oracle = make(20, [False] * 5, [False] * 4)
    window = window_at(table, 0, 3, horizon=3)
    assert window.complete == 0.0
    assert window.valid.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert window.actions[4:].tolist() == [0.0, 0.0]
    assert window.rewards[2] == 0.0
    np.testing.assert_array_equal(window.next_obs, oracle.episodes[0].obs(5))


def test_a_trajectory_goes_on_after_a_terminated_row() -> None:
    # OGBench's play data: the task is solved, the recording continues.
    table, oracle = make(10, [False, True, False, False, False])
    window = window_at(table, 0, 0, horizon=4)
    assert window.complete == 1.0
    assert window.terminated.tolist() == [False, True, False, False]
    returns, bootstrap = flow.chunk_return(window.rewards[None], window.terminated[None], GAMMA)
    episode = oracle.episodes[0]
    assert returns.item() == pytest.approx(episode.reward(0) + GAMMA * episode.reward(1))
    assert bootstrap.item() == 0.0

    after = window_at(table, 0, 2, horizon=3)
    _, bootstrap = flow.chunk_return(after.rewards[None], after.terminated[None], GAMMA)
    assert bootstrap.item() == pytest.approx(GAMMA**3)


@pytest.mark.parametrize(("end", "factor"), [("terminated", 0.0), ("truncated", GAMMA**3)])
def test_truncation_bootstraps_and_termination_does_not(end: str, factor: float) -> None:
    table, oracle = make(10)
    episode = oracle.new_episode()
    add_fragment(table, oracle, episode, 3, end)
    window = window_at(table, 0, 0, horizon=3)
    assert window.complete == 1.0
    _, bootstrap = flow.chunk_return(window.rewards[None], window.terminated[None], GAMMA)
    assert bootstrap.item() == pytest.approx(factor)
    np.testing.assert_array_equal(window.next_obs, episode.obs(3))


def test_an_unfinished_episode_has_its_newest_observation_until_it_goes_on() -> None:
    table, oracle = make(10)
    episode = oracle.new_episode()
    add_fragment(table, oracle, episode, 2)
    window = window_at(table, 0, 1, horizon=2)
    assert window.complete == 0.0
    np.testing.assert_array_equal(window.next_obs, episode.obs(2))

    add_fragment(table, oracle, episode, 2)
    window = window_at(table, 0, 1, horizon=2)
    assert window.complete == 1.0
    np.testing.assert_array_equal(window.next_obs, episode.obs(3))


# --- Any history, against the oracle ------------------------------------------------------

flags = st.lists(st.booleans(), min_size=1, max_size=12)
steps = st.tuples(
    st.integers(0, 3),  # environment
    st.integers(1, 9),  # length
    st.sampled_from(["open", "open", "terminated", "truncated"]),
)
ops = st.lists(steps, max_size=25)


def replay_ops(
    tables: list[ReplayTable],
    oracle: Oracle,
    history: list[tuple[int, int, str]],
    running: dict[int, Episode],
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Play interleaved fragments of several environments into some tables."""
    for env, length, end in history:
        length = min(length, oracle.capacity)
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


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    offline=st.lists(flags, max_size=4),
    extra=st.integers(0, 30),
    horizon=st.integers(1, 6),
    history=ops,
)
def test_every_window_is_the_oracles(
    offline: list[list[bool]], extra: int, horizon: int, history: list[tuple[int, int, str]]
) -> None:
    # Capacities from 1 to well above what is written: wrap-around, offline rows overwritten,
    # and episodes longer than the table all occur.
    table, oracle = make(max(1, sum(map(len, offline)) + extra), *offline)
    noise = generator()

    def check() -> None:
        assert len(table) == min(table.capacity, len(oracle.rows))
        oracle.check(table.sample(8, horizon, noise), horizon)

    replay_ops([table], oracle, history, {}, check)
    if len(table):
        drawn = oracle.check(table.sample(20 * len(table), horizon, noise), horizon)
        assert len(drawn) > 0.99 * len(table)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    offline=st.lists(flags, max_size=3),
    extra=st.integers(1, 30),
    horizon=st.integers(1, 5),
    before=st.lists(steps, min_size=1, max_size=15),
    after=ops,
)
def test_state_round_trip_draws_the_same_windows(
    offline: list[list[bool]],
    extra: int,
    horizon: int,
    before: list[tuple[int, int, str]],
    after: list[tuple[int, int, str]],
) -> None:
    table, oracle = make(sum(map(len, offline)) + extra, *offline)
    running: dict[int, Episode] = {}
    replay_ops([table], oracle, before, running)
    copy, _ = make(table.capacity, *offline)
    copy.set_state(table.get_state())

    def same() -> None:
        first = table.sample(32, horizon, generator(1))
        second = copy.sample(32, horizon, generator(1))
        for name, a, b in zip(WindowBatch._fields, first, second, strict=True):
            assert torch.equal(a, b), name
        oracle.check(second, horizon)

    same()
    replay_ops([table, copy], oracle, after, running, same)
    assert (copy.num_online, len(copy)) == (table.num_online, len(table))


def test_after_a_restart_unfinished_episodes_are_not_joined_to_others() -> None:
    table, oracle = make(20)
    episode = oracle.new_episode()
    add_fragment(table, oracle, episode, 3)
    table.forget_open_episodes()
    # A new runner may use the same id again; its episode must not continue the old one.
    table.add_fragment("episode-0", **episode.columns(7, 9), terminated=False, done=False)
    window = window_at(table, 0, 2, horizon=2)
    assert window.complete == 0.0
    np.testing.assert_array_equal(window.next_obs, episode.obs(3))


# --- Bookkeeping ---------------------------------------------------------------------------


def test_tails_are_reused() -> None:
    table, oracle = make(50, [False] * 10, [False] * 10)
    for k in range(1_000):
        episode = oracle.new_episode()
        add_fragment(table, oracle, episode, 1 + k % 3)
        add_fragment(table, oracle, episode, 1 + k % 2, "truncated")
    # Never more than one kept observation a stored row.
    assert table.tails.shape[0] <= 2 * table.capacity
    oracle.check(table.sample(200, 3, generator()), 3)


def test_a_running_episode_keeps_one_tail() -> None:
    table, oracle = make(1_000)
    episode = oracle.new_episode()
    before = table.tails.shape[0]
    for _ in range(900):
        add_fragment(table, oracle, episode, 1)
    assert table.tails.shape[0] == before < 100


def test_rows_are_drawn_uniformly() -> None:
    table, oracle = make(40, [False] * 25)
    for _ in range(7):
        add_fragment(table, oracle, oracle.new_episode(), 5, "terminated")
    draws = 40_000
    batch = table.sample(draws, 2, generator(3))
    _, counts = torch.unique(batch.obs[:, :2], dim=0, return_counts=True)
    assert len(counts) == 40
    expected = draws / 40
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    # 39 degrees of freedom: mean 39, standard deviation 8.8.
    assert chi_square < 39 + 5 * 8.8


def test_a_generator_decides_what_is_drawn() -> None:
    table, _ = make(30, [False] * 30)
    first, second, other = (table.sample(64, 3, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.obs, second.obs)
    assert not torch.equal(first.obs, other.obs)


def test_counts_tell_offline_from_online_rows() -> None:
    table, oracle = make(12, [False] * 8)
    assert (len(table), table.num_offline, table.num_online) == (8, 8, 0)
    for _ in range(3):
        add_fragment(table, oracle, oracle.new_episode(), 3, "terminated")
    assert (len(table), table.num_offline, table.num_online) == (12, 8, 9)


# --- Errors --------------------------------------------------------------------------------


def test_an_empty_replay_cannot_be_sampled() -> None:
    table, _ = make(4)
    with pytest.raises(ValueError, match="replay is empty"):
        table.sample(2, 1)


def test_capacity_must_be_positive() -> None:
    with pytest.raises(ValueError, match="capacity=0"):
        ReplayTable(0, OBS_DIM, ACTION_DIM)


def test_a_dataset_larger_than_the_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match=r"8 transitions.*replay_capacity=7"):
        make(7, [False] * 8)


def test_offline_data_come_first() -> None:
    table, oracle = make(20)
    add_fragment(table, oracle, oracle.new_episode(), 2)
    with pytest.raises(ValueError, match="loaded first"):
        add_offline(table, oracle, [[False] * 3])


@pytest.mark.parametrize(
    ("num_obs", "num_actions", "num_rewards"), [(3, 3, 3), (4, 2, 3), (1, 0, 0), (7, 6, 6)]
)
def test_fragments_of_wrong_lengths_are_refused(
    num_obs: int, num_actions: int, num_rewards: int
) -> None:
    table, _ = make(5)
    with pytest.raises(ValueError, match="T \\+ 1, T, T"):
        table.add_fragment(
            "x",
            np.zeros((num_obs, OBS_DIM)),
            np.zeros((num_actions, ACTION_DIM)),
            np.zeros(num_rewards),
            terminated=False,
            done=False,
        )
    assert len(table) == 0


@pytest.mark.parametrize(("capacity", "offline"), [(20, 7), (9, 8)])
def test_a_state_of_another_replay_is_refused(capacity: int, offline: int) -> None:
    table, oracle = make(20, [False] * 8)
    add_fragment(table, oracle, oracle.new_episode(), 2)
    other, _ = make(capacity, [False] * offline)
    with pytest.raises(ValueError, match="resume with the same dataset"):
        other.set_state(table.get_state())


@pytest.mark.parametrize("capacity", [11, 13])
def test_a_wrapped_state_needs_its_own_capacity(capacity: int) -> None:
    table, oracle = make(12, [False] * 8)
    add_fragment(table, oracle, oracle.new_episode(), 5)
    other, _ = make(capacity, [False] * 8)
    with pytest.raises(ValueError, match="resume with the same dataset"):
        other.set_state(table.get_state())


@pytest.mark.parametrize("capacity", [14, 50])
def test_a_state_that_never_wrapped_fits_any_sufficient_capacity(capacity: int) -> None:
    table, oracle = make(20, [False] * 8)
    episode = oracle.new_episode()
    add_fragment(table, oracle, episode, 6)
    other, _ = make(capacity, [False] * 8)
    other.set_state(table.get_state())
    oracle.capacity = capacity
    replay_ops([other], oracle, [(0, 9, "open"), (1, 5, "terminated")], {0: episode})
    oracle.check(other.sample(200, 4, generator()), 4)


def test_a_state_is_restored_into_a_fresh_table_only() -> None:
    # Offline rows are not part of the state, so they must still be there.
    table, oracle = make(10, [False] * 8)
    add_fragment(table, oracle, oracle.new_episode(), 1)
    state = table.get_state()
    add_fragment(table, oracle, oracle.new_episode(), 6)
    with pytest.raises(ValueError, match="fresh"):
        table.set_state(state)
