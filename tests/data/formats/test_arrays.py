"""Dicts of arrays: names, ends of episodes, missing successors, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_fmq.data import from_arrays, load_dataset, save_transitions
from rllib_fmq.data.formats.arrays import to_arrays
from rllib_fmq.data.formats.transitions_npz import write_transitions
from tests.data.formats.recordings import make_table

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(lengths=lengths, inside=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_round_trip(lengths: list[int], inside: bool, seed: int) -> None:
    table = make_table(lengths, seed=seed, inside=inside)
    arrays = to_arrays(table)
    assert from_arrays(arrays).fingerprint == table.fingerprint
    assert ("episode_end" in arrays) == bool((table.terminated & ~table.episode_end).any())


@given(lengths=lengths, inside=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_round_trip_through_a_file(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], inside: bool, seed: int
) -> None:
    path = tmp_path_factory.mktemp("plain") / "own.npz"
    table = make_table(lengths, seed=seed, inside=inside)
    assert load_dataset(write_transitions(path, table), "E").fingerprint == table.fingerprint


def plain(**changes: Any) -> dict[str, Any]:
    """Two episodes of 3 and 2 rows that count upwards: the first terminated, the second cut."""
    made: dict[str, Any] = {
        "observations": np.array([[0], [1], [2], [10], [11]]),
        "actions": np.zeros((5, 1)),
        "rewards": np.arange(5),
        "next_observations": np.array([[1], [2], [3], [11], [12]]),
        "terminated": [0, 0, 1, 0, 0],
        "truncated": [0, 0, 0, 0, 1],
    }
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def test_names_of_d4rl_mean_the_same() -> None:
    theirs = plain()
    theirs["terminals"], theirs["timeouts"] = theirs.pop("terminated"), theirs.pop("truncated")
    assert from_arrays(theirs).fingerprint == from_arrays(plain()).fingerprint
    with pytest.raises(ValueError, match="both 'terminals' and 'terminated'"):
        from_arrays(plain(terminals=[0] * 5))


def test_lists_integers_and_columns_of_rewards_are_taken() -> None:
    lists = {key: np.asarray(value).tolist() for key, value in plain().items()}
    lists["rewards"] = [[reward] for reward in lists["rewards"]]
    table = from_arrays(lists)
    assert table.fingerprint == from_arrays(plain()).fingerprint
    assert table.obs.dtype == np.float32


def test_without_successors_a_cut_end_is_dropped_and_a_terminated_one_stays() -> None:
    table = from_arrays(plain(next_observations=None))
    assert table.obs[:, 0].tolist() == [0, 1, 2, 10]
    assert table.rewards.tolist() == [0, 1, 2, 3]
    assert table.terminated.tolist() == [False, False, True, False]
    assert table.episode_end.tolist() == [False, False, True, True]
    assert table.final_obs[:, 0].tolist() == [2, 11]


def test_without_successors_single_rows() -> None:
    table = from_arrays(plain(next_observations=None, truncated=[1, 1, 0, 1, 1]))
    assert table.obs[:, 0].tolist() == [2]
    with pytest.raises(ValueError, match="no row has a successor"):
        from_arrays(plain(next_observations=None, truncated=[1] * 5, terminated=[0] * 5))


@given(lengths=lengths, seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_without_successors_every_other_row_is_kept(lengths: list[int], seed: int) -> None:
    table = make_table([n + 1 for n in lengths], seed=seed, ended=[False] * len(lengths))
    arrays = to_arrays(table)
    del arrays["next_observations"]
    short = from_arrays(arrays)
    np.testing.assert_array_equal(short.obs, table.obs[~table.episode_end])
    np.testing.assert_array_equal(short.final_obs, table.obs[table.episode_end])
    assert np.diff(np.flatnonzero(short.episode_end), prepend=-1).tolist() == lengths


def test_a_trajectory_may_go_on_after_a_terminated_row() -> None:
    table = from_arrays(
        plain(
            next_observations=[[1], [2], [10], [11], [12]],
            truncated=None,
            episode_end=[0, 0, 0, 0, 1],
        )
    )
    assert (table.num_episodes, int(table.terminated.sum())) == (1, 1)
    assert not table.episode_end[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": None}, r"mine: it lacks 'rewards'; it has 'actions', "),
        ({"terminated": None}, r"lacks 'terminated' \(or 'terminals'\)"),
        ({"observations": [["a"]] * 5}, "observations holds <U1, not numbers"),
        ({"observations": [[1], [1, 2]]}, "observations is no array"),
        ({"actions": np.array([None] * 5)}, "actions holds object"),
        ({"actions": np.zeros(5)}, r"actions has shape \(5,\), expected \(rows, size\)"),
        ({"rewards": np.zeros((5, 2))}, r"rewards has shape \(5, 2\), expected \(rows,\)"),
        ({"truncated": np.zeros(4)}, r"truncated has shape \(4,\)"),
        ({"terminated": [0, 0.5, 1, 0, 0]}, r"terminated is 0\.5 at row 1"),
        ({"episode_end": [0, 0, 1, 0, 0], "truncated": [0, 1, 0, 0, 0]}, "set at row 1"),
        ({"terminated": [0] * 5}, r"next_observations\[2\] differs from observations\[3\]"),
        ({"rewards": [0, 0, np.nan, 0, 0]}, "rewards is nan at row 2"),
        ({"rewards": [0, 0, 0, 0, 1e300]}, r"rewards is 1e\+300 at row 4"),
        (
            {"next_observations": [[1], [2], [3], [np.nan], [12]]},
            "next_observations is nan at row 3, entry 0",
        ),
        (
            {"observations": [[0], [1], [2], [10], [np.nan]], "next_observations": None},
            "observations is nan at row 4, entry 0",
        ),
        ({"terminated": None, "terminals": [0, 2, 1, 0, 0]}, "terminals is 2 at row 1"),
        (
            {"truncated": None, "timeouts": [0] * 5, "terminated": [0] * 5},
            r"observations\[3\], though no episode ends there: set timeouts\[2\]",
        ),
        ({"actions": np.zeros((5, 0))}, "must not have size 0"),
    ],
)
def test_bad_arrays(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        from_arrays(plain(**changes), source="mine")
    assert "unusable dataset mine: " in str(caught.value)


def test_without_successors_what_a_dropped_row_did_may_be_anything() -> None:
    expected = from_arrays(plain(next_observations=None)).fingerprint
    rewards, actions = np.arange(5.0), np.zeros((5, 1))
    rewards[4], actions[4] = np.nan, np.inf
    table = from_arrays(plain(next_observations=None, rewards=rewards, actions=actions))
    assert table.fingerprint == expected
    rewards[3] = np.nan
    with pytest.raises(ValueError, match=r"rewards is nan at row 3 \(1 such"):
        from_arrays(plain(next_observations=None, rewards=rewards, actions=actions))


def test_successors_are_compared_far_apart() -> None:
    # Rows are looked at in parts, and counted from the start.
    observations = np.arange(600_001, dtype=np.float32)[:, None]
    arrays = {
        "observations": observations[:-1],
        "actions": np.zeros((600_000, 1), np.float32),
        "rewards": np.zeros(600_000),
        "next_observations": observations[1:].copy(),
        "terminated": np.zeros(600_000, np.bool_),
    }
    assert from_arrays(arrays).num_steps == 600_000
    for row in (0, 262_143, 262_144, 599_998):
        arrays["next_observations"][row] += 1
        with pytest.raises(ValueError, match=rf"next_observations\[{row}\] differs"):
            from_arrays(arrays)
        arrays["next_observations"][row] -= 1


def test_saved_with_episode_ends(tmp_path: Path) -> None:
    arrays = to_arrays(make_table([5, 4], inside=True))
    table = load_dataset(save_transitions(tmp_path / "own.npz", **arrays), "E")
    assert np.flatnonzero(table.episode_end).tolist() == [4, 8]
