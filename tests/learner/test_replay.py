"""The replay's windows at the ends of episodes, its bookkeeping and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from rllib_fmq import flow
from rllib_fmq.learner.online_rows import OnlineRows, ReplayCounts
from rllib_fmq.learner.replay import ReplayTable

from .replay_oracle import (
    ACTION_DIM,
    OBS_DIM,
    Oracle,
    add_fragment,
    generator,
    make,
    offline_table,
    replay_ops,
    transfer,
    window_at,
)

GAMMA = 0.9


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


def test_after_a_restart_unfinished_episodes_are_not_joined_to_others() -> None:
    table, oracle = make(20)
    episode = oracle.new_episode()
    add_fragment(table, oracle, episode, 3)
    assert table.keep_open_episodes(()) == 1
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
    assert len(table.tails) <= 2 * table.capacity
    oracle.check(table.sample(200, 3, generator()), 3)


def test_a_running_episode_keeps_one_tail() -> None:
    table, oracle = make(1_000)
    episode = oracle.new_episode()
    for _ in range(900):
        add_fragment(table, oracle, episode, 1)
    assert len(table.tails) < 100


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


def test_parts_tell_what_follows_their_rows() -> None:
    table, oracle = make(20, [False] * 8)
    one, other = oracle.new_episode(), oracle.new_episode()
    for episode, end in ((one, "open"), (other, "open"), (one, "open"), (other, "truncated")):
        add_fragment(table, oracle, episode, 2, end)
    assert table.counts == ReplayCounts(8, 16, 20, 0, {"episode-1": 5})
    early, late = table.online_parts(0, 4)
    assert (early.first, early.stop, late.first, late.stop) == (0, 4, 4, 8)
    # Rows 1 and 3 go on in the later part, which says so; 5 and 7 have no next row.
    assert early.joins.tolist() == [] and early.ends.tolist() == []
    assert late.joins.tolist() == [[1, 4], [3, 6]] and late.ends.tolist() == [5, 7]
    np.testing.assert_array_equal(late.end_obs, [one.obs(4), other.obs(4)])


def test_only_the_named_unfinished_episodes_go_on() -> None:
    table, oracle = make(20)
    episodes = [oracle.new_episode() for _ in range(3)]
    for episode in episodes:
        add_fragment(table, oracle, episode, 2)
    assert table.keep_open_episodes({"episode-1", "unknown"}) == 2
    assert table.counts.open == {"episode-1": 3}
    assert table.keep_open_episodes({"episode-1"}) == 0
    for episode in episodes[:2]:
        add_fragment(table, oracle, episode, 2)
    assert window_at(table, 1, 1, horizon=2).complete == 1.0
    assert window_at(table, 0, 1, horizon=2).complete == 0.0


def test_episodes_that_nobody_ends_are_forgotten_with_their_rows() -> None:
    table, oracle = make(12)
    for _ in range(100):
        add_fragment(table, oracle, oracle.new_episode(), 3)
        assert len(table._open) <= 4
    assert table.counts.open == {f"episode-{k}": 3 * k + 2 for k in range(96, 100)}
    # Restored into a smaller table, of which fewer rows are here.
    rows = list(table.online_parts(table.online_numbers.start, 100))
    shuffled = dict(reversed(table.counts.open.items()))
    restored, _ = make(12)
    restored.restore(replace(table.counts, open=shuffled), rows)
    add_fragment(restored, oracle, oracle.new_episode(), 3)
    assert sorted(restored.counts.open.values()) == [293, 296, 299, 302]


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
        table.add_offline(offline_table(Oracle(20), [[False] * 3]).columns())


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
        transfer(table, other)


@pytest.mark.parametrize("capacity", [11, 13])
def test_a_wrapped_state_needs_its_own_capacity(capacity: int) -> None:
    table, oracle = make(12, [False] * 8)
    add_fragment(table, oracle, oracle.new_episode(), 5)
    other, _ = make(capacity, [False] * 8)
    with pytest.raises(ValueError, match="resume with the same dataset"):
        transfer(table, other)


@pytest.mark.parametrize("capacity", [14, 50])
def test_a_state_that_never_wrapped_fits_any_sufficient_capacity(capacity: int) -> None:
    table, oracle = make(20, [False] * 8)
    episode = oracle.new_episode()
    add_fragment(table, oracle, episode, 6)
    other, _ = make(capacity, [False] * 8)
    transfer(table, other)
    oracle.capacity = capacity
    replay_ops([other], oracle, [(0, 9, "open"), (1, 5, "terminated")], {0: episode})
    oracle.check(other.sample(200, 4, generator()), 4)


def test_a_state_is_restored_into_a_fresh_table_only() -> None:
    # Offline rows are not part of the state, so they must still be there.
    table, oracle = make(10, [False] * 8)
    add_fragment(table, oracle, oracle.new_episode(), 1)
    counts, parts = table.counts, list(table.online_parts(0, 10))
    add_fragment(table, oracle, oracle.new_episode(), 6)
    with pytest.raises(ValueError, match="fresh"):
        table.restore(counts, parts)


def test_a_table_that_was_restored_in_part_is_not_fresh() -> None:
    table, oracle = make(10, [False] * 8)
    add_fragment(table, oracle, oracle.new_episode(), 5)
    add_fragment(table, oracle, oracle.new_episode(), 2)
    first, second = table.online_parts(0, 4)
    other, _ = make(10, [False] * 8)

    def interrupted() -> Iterator[OnlineRows]:
        yield first
        raise OSError("unreadable")

    with pytest.raises(OSError, match="unreadable"):
        other.restore(table.counts, interrupted())
    with pytest.raises(ValueError, match="fresh"):
        other.restore(table.counts, [first, second])


def test_a_part_without_its_join_is_noticed() -> None:
    table, oracle = make(10)
    add_fragment(table, oracle, oracle.new_episode(), 3)
    (rows,) = table.online_parts(0, 10)
    other, _ = make(10)
    with pytest.raises(ValueError, match="damaged"):
        other.restore(table.counts, [rows._replace(ends=rows.ends[:0], end_obs=rows.end_obs[:0])])
