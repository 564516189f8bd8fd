"""The table: types, validation, fingerprint."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from rllib_fmq.data import TransitionTable
from rllib_fmq.data.chunks import row_chunks


def columns(**changes: Any) -> dict[str, Any]:
    """Two episodes, of three and two steps."""
    random = np.random.default_rng(0)
    made: dict[str, Any] = {
        "obs": random.normal(size=(5, 3)),
        "actions": random.uniform(-1, 1, size=(5, 2)),
        "rewards": np.zeros(5),
        "terminated": np.array([0, 0, 1, 0, 0]),
        "episode_end": np.array([0, 0, 1, 0, 1]),
        "final_obs": random.normal(size=(2, 3)),
        "source": "test",
    }
    return {**made, **changes}


def test_casts_and_counts() -> None:
    table = TransitionTable.from_columns(**columns())
    assert (table.num_steps, table.num_episodes) == (5, 2)
    assert (table.obs_dim, table.action_dim) == (3, 2)
    assert table.obs.dtype == table.actions.dtype == table.rewards.dtype == np.float32
    assert table.terminated.dtype == table.episode_end.dtype == np.bool_


def test_fingerprint_follows_the_contents() -> None:
    table = TransitionTable.from_columns(**columns())
    assert len(table.fingerprint) == 64
    same = TransitionTable.from_columns(**columns(source="elsewhere"))
    assert same.fingerprint == table.fingerprint
    for name in ("obs", "actions", "rewards", "terminated", "final_obs"):
        changed = np.array(columns()[name], dtype=np.float64)
        changed.flat[0] = 1.0 - changed.flat[0]
        other = TransitionTable.from_columns(**columns(**{name: changed}))
        assert other.fingerprint != table.fingerprint, name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["obs", "actions", "rewards", "final_obs"])
def test_names_the_first_value_that_is_not_finite(name: str, bad: float) -> None:
    values = np.array(columns()[name])
    values[1, ...] = bad
    where = r"row 1 \(episode 1\)" if name == "final_obs" else r"row 1 \(episode 0, step 1\)"
    where += "" if values.ndim == 1 else ", entry 0"
    with pytest.raises(ValueError, match=rf"test: {name} is -?(nan|inf) at {where}"):
        TransitionTable.from_columns(**columns(**{name: values}))


def test_counts_bad_values_far_apart() -> None:
    # The table is looked at in parts; rows are counted from its start.
    num = 300_000
    end = np.arange(num) == num - 1
    obs = np.zeros((num, 3), np.float32)
    obs[[123_456, 299_999], 2] = np.nan
    with pytest.raises(
        ValueError, match=r"row 123456 \(episode 0, step 123456\), entry 2 \(2 such"
    ):
        TransitionTable.from_columns(
            obs=obs,
            actions=np.zeros((num, 1)),
            rewards=np.zeros(num),
            terminated=np.zeros(num),
            episode_end=end,
            final_obs=np.zeros((1, 3)),
            source="test",
        )


@pytest.mark.parametrize("shape", [(1, 1), (7, 300_000), (1_000_000, 1), (300_000, 5), (10, 0)])
def test_row_chunks_cover_every_row_once(shape: tuple[int, int]) -> None:
    column = np.zeros(shape, np.uint8)
    parts = list(row_chunks(column))
    assert sum(len(rows) for _, rows in parts) == shape[0]
    for start, rows in parts:
        assert rows.base is column
        assert start == sum(len(before) for at, before in parts if at < start)
        assert len(rows) == 1 or rows.size <= 1 << 18


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obs": np.zeros(5)}, "obs must be a 2-dimensional float32 array"),
        ({"actions": np.zeros((4, 2))}, "actions has 4 rows, obs 5"),
        ({"rewards": np.zeros((5, 1))}, "rewards must be a 1-dimensional"),
        ({"final_obs": np.zeros((2, 4))}, "final_obs has size 4, obs 3"),
        ({"final_obs": np.zeros((1, 3))}, "2 rows end an episode, but there are 1 final_obs"),
        ({"episode_end": np.array([0, 0, 1, 1, 0])}, "the last row must end an episode"),
    ],
)
def test_structure_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransitionTable.from_columns(**columns(**changes))


def test_empty_is_refused() -> None:
    empty = {name: value[:0] for name, value in columns().items() if name != "source"}
    with pytest.raises(ValueError, match="no transitions"):
        TransitionTable.from_columns(**empty, source="test")


def test_types_are_checked() -> None:
    table = TransitionTable.from_columns(**columns())
    wide = dataclasses.replace(table, obs=table.obs.astype(np.float64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float64"):
        wide.validate()


def test_place_names_episode_and_step() -> None:
    table = TransitionTable.from_columns(**columns())
    assert [table.place(row) for row in range(5)] == [
        "row 0 (episode 0, step 0)",
        "row 1 (episode 0, step 1)",
        "row 2 (episode 0, step 2)",
        "row 3 (episode 1, step 0)",
        "row 4 (episode 1, step 1)",
    ]
