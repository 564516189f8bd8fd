"""From the command line with remote runners and learners, on a simulated robot arm.

What each method does with them is in tests/algorithms/test_algorithms.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rllib_fmq.data.generation.generate import generate_dataset
from tests.cli.conftest import TINY
from tests.command import Command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]


@pytest.fixture(scope="module")
def cube_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scripted episode of cube-single."""
    return generate_dataset(
        "cube-single-play-v0",
        tmp_path_factory.mktemp("cube") / "cube.npz",
        steps=1_000,
        seed=0,
        num_workers=0,
        val_fraction=0.0,
        progress=False,
    )


def test_remote_runners_and_learners(cube_data: Path, tmp_path: Path, rllib_here: Command) -> None:
    outcome = rllib_here(
        *("train", "--algo", "FMQ", "--env", "cube-single-play-singletask-task2-v0"),
        *("--dataset", cube_data, "--config", TINY[:-1] + ', "num_cpus_per_learner": 0.5}'),
        *("--num-env-runners", "2", "--num-learners", "2"),
        *("--offline-updates", "20", "--online-env-steps", "60"),
        *("--evaluation-interval", "10", "--evaluation-episodes", "1"),
        *("--storage-path", tmp_path, "-n", "run", "--no-artifacts"),
    )
    assert outcome.code == 0, outcome.err
    (result,) = tmp_path.glob("run/*/result.json")
    last = json.loads(result.read_text().splitlines()[-1])
    assert last["done"] and last["num_online_env_steps"] >= 60
    assert last["num_updates"] == 20 + last["num_online_env_steps"] - 10
    assert last["evaluation"]["env_runners"]["num_episodes"] == 1
    assert len(list(tmp_path.glob("run/*/checkpoint_*"))) == 2
