"""Our plain format, for environments of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq.data import check_fits, load_dataset, save_transitions
from rllib_fmq.tasks import make_env


def transitions(**changes: Any) -> dict[str, Any]:
    """Episodes of four (terminated), three (truncated) and three (cut by the end) steps."""
    states = np.random.default_rng(0).normal(size=(13, 2)).astype(np.float32)
    rows = [0, 1, 2, 3, 5, 6, 7, 9, 10, 11]
    made: dict[str, Any] = {
        "observations": states[rows],
        "actions": np.linspace(-2, 2, 10)[:, None],
        "rewards": np.arange(10.0),
        "next_observations": states[np.array(rows) + 1],
        "terminated": np.arange(10) == 3,
        "truncated": np.arange(10) == 6,
    }
    return {**made, **changes}


def test_round_trip(tmp_path: Path) -> None:
    path = save_transitions(tmp_path / "own.npz", **transitions())
    table = load_dataset(path, "MyEnv-v0")
    made = transitions()
    np.testing.assert_array_equal(table.obs, made["observations"])
    np.testing.assert_array_equal(table.rewards, made["rewards"])
    assert np.flatnonzero(table.terminated).tolist() == [3]
    assert np.flatnonzero(table.episode_end).tolist() == [3, 6, 9]
    np.testing.assert_array_equal(table.final_obs, made["next_observations"][[3, 6, 9]])


def test_recorded_from_a_gymnasium_environment(tmp_path: Path) -> None:
    env = make_env("Pendulum-v1")
    env.action_space.seed(0)
    record: dict[str, list[Any]] = {name: [] for name in transitions()}
    obs, _ = env.reset(seed=0)
    for _ in range(250):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        for name, value in zip(
            record, (obs, action, reward, following, terminated, truncated), strict=True
        ):
            record[name].append(value)
        obs = env.reset()[0] if terminated or truncated else following
    table = load_dataset(save_transitions(tmp_path / "pendulum.npz", **record), "Pendulum-v1")
    assert (table.num_steps, table.num_episodes) == (250, 2)
    check_fits(table, env.observation_space, env.action_space)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": np.zeros(9)}, r"rewards has shape \(9,\)"),
        ({"rewards": np.full(10, np.nan)}, "rewards is nan at row 0"),
        ({"next_observations": np.zeros((10, 3))}, r"next_observations has shape \(10, 3\)"),
        ({"truncated": np.zeros(10)}, r"next_observations\[6\] differs from observations\[7\]"),
        (
            {
                "observations": np.full((10, 2), np.nan),
                "next_observations": np.full((10, 2), np.nan),
            },
            "observations is nan at row 0, entry 0",
        ),
        ({"observations": np.float32(1.0)}, r"observations has shape \(\)"),
    ],
)
def test_bad_data_is_refused_and_not_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "own.npz"
    with pytest.raises(ValueError, match=message):
        save_transitions(path, **transitions(**changes))
    assert not list(tmp_path.iterdir())


def test_needs_the_npz_suffix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        save_transitions(tmp_path / "own.hdf5", **transitions())
