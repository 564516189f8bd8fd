"""Datasets against environments, and action units."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from hypothesis import given
from hypothesis import strategies as st

from rllib_fmq.data import (
    TransitionTable,
    check_fits,
    load_dataset,
    scale_actions,
    unscale_actions,
)


@pytest.fixture
def table() -> TransitionTable:
    return TransitionTable.from_columns(
        obs=np.zeros((4, 3)),
        actions=np.array([[-2.0, 0.0], [2.0, 1.0], [0.0, 0.5], [1.0, 0.25]]),
        rewards=np.zeros(4),
        terminated=np.zeros(4),
        episode_end=np.array([0, 0, 0, 1]),
        final_obs=np.zeros((1, 3)),
        source="test.npz",
    )


OBS = Box(-np.inf, np.inf, (3,))
ACT = Box(np.array([-2, 0], np.float32), np.array([2, 1], np.float32))


def test_fits(table: TransitionTable) -> None:
    check_fits(table, OBS, ACT)


@pytest.mark.parametrize(
    ("obs", "act", "message"),
    [
        (Box(-1, 1, (4,)), ACT, r"test\.npz has observations of size 3, .* have size 4"),
        (OBS, Box(-2, 2, (5,)), r"test\.npz has actions of size 2, .* have size 5"),
        (Box(-1, 1, (3, 1)), ACT, "observations need a one-dimensional Box"),
        (Dict({"a": OBS}), ACT, "observations need a one-dimensional Box"),
        (
            OBS,
            Box(-1, 1, (2,)),
            r"action -2\.0 at row 0 \(episode 0, step 0\), entry 0, .*bounds \[-1\.0, 1\.0\]",
        ),
    ],
)
def test_does_not_fit(table: TransitionTable, obs: object, act: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_fits(table, obs, act)


def test_rounding_beyond_the_bounds_is_tolerated(table: TransitionTable) -> None:
    slack = dataclasses.replace(table, actions=table.actions * np.float32(1.0004))
    check_fits(slack, OBS, ACT)
    with pytest.raises(ValueError, match="outside"):
        check_fits(dataclasses.replace(table, actions=table.actions * np.float32(1.001)), OBS, ACT)


def test_scaling_is_exact_for_unit_bounds_and_at_the_bounds() -> None:
    unit = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    np.testing.assert_array_equal(scale_actions(unit, [-1, -1], [1, 1]), unit)
    np.testing.assert_array_equal(unscale_actions(unit, [-1, -1], [1, 1]), unit)
    np.testing.assert_array_equal(
        scale_actions([ACT.low, ACT.high], ACT.low, ACT.high), [[-1] * 2, [1] * 2]
    )
    assert scale_actions(np.float64([5.0, -5.0]), ACT.low, ACT.high).tolist() == [1.0, -1.0]
    assert scale_actions(unit, ACT.low, ACT.high).dtype == np.float32


@given(
    low=st.floats(-100, 99, width=32),
    width=st.floats(0.125, 100, width=32),
    at=st.floats(0, 1, width=32),
)
def test_scaling_round_trip(low: float, width: float, at: float) -> None:
    high = low + width
    space = Box(np.float32(low), np.float32(high), (1,))
    action = np.clip(np.float32([low + at * width]), space.low, space.high)
    scaled = scale_actions(action, space.low, space.high)
    assert -1.0 <= scaled[0] <= 1.0
    back = unscale_actions(scaled, space.low, space.high)
    assert space.contains(back)
    np.testing.assert_allclose(back, action, atol=1e-6 * (abs(low) + abs(high) + width))


@pytest.mark.parametrize(("low", "high"), [([-np.inf], [1.0]), ([1.0], [1.0]), ([0.0], [np.nan])])
def test_bounds_must_leave_room(low: list[float], high: list[float]) -> None:
    with pytest.raises(ValueError, match="finite bounds"):
        scale_actions([0.5], low, high)


def test_unknown_format(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, states=np.ones(3))
    with pytest.raises(ValueError, match=r"other\.npz has no known format but states\. Expected"):
        load_dataset(path, "Pendulum-v1")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not found: .*none\.npz"):
        load_dataset(str(tmp_path / "none.npz"), "Pendulum-v1")
