"""The paper's twelve tasks by their short names: data, a short offline and a short online phase."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq import FMQConfig
from rllib_fmq.data.generation.low_level_policy import make_policy, save_low_level_policy
from rllib_fmq.data.loading import load_dataset
from rllib_fmq.tasks.catalog import find_task, paper_tasks
from tests.cli.conftest import TINY
from tests.command import Command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

DIRECTED = ("--goal-fraction", "1", "--val-fraction", "0")
GENERATED = {
    "can-mh": ("--episodes", "2"),
    "square-mh": ("--episodes", "2"),
    # Episodes of 1,000 steps, directed at the goals of tasks 1 to 5 in turn.
    "cube-double-play-v0": ("--steps", "4000", *DIRECTED),
    "cube-triple-play-v0": ("--steps", "4000", *DIRECTED),
    "scene-play-v0": ("--steps", "5000", *DIRECTED),
    "humanoidmaze-medium-navigate-v0": ("--steps", "400", "--val-fraction", "0"),
    "antmaze-giant-navigate-v0": ("--steps", "400", "--val-fraction", "0"),
}
ROBOTS = {"humanoidmaze": (69, 21), "antmaze": (29, 8)}  # observation with direction, action
SHORT_NAMES = [str(task.short_name) for task in paper_tasks()]
BY_COMMAND = ("hmaze-med-t3",)
"""As a user starts it (a cube: tests/cli/test_methods.py); the others here, which is faster."""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which datasets are generated as they are needed."""
    return tmp_path_factory.mktemp("data")


def generate(dataset: str, folder: Path, rllib: Command) -> None:
    """Make a dataset with the command, unless a test before did."""
    name = dataset.removesuffix("-mh")
    if list(folder.rglob(f"{name}*")):
        return
    options = [*GENERATED[dataset]]
    robot = dataset.split("-")[0]
    if robot in ROBOTS:
        inputs, outputs = ROBOTS[robot]
        rng = np.random.default_rng(0)
        layers = [
            (rng.normal(size=(16, inputs)) / 4, np.zeros(16)),
            (rng.normal(size=(outputs, 16)) / 4, np.zeros(outputs)),
        ]
        policy = make_policy(layers, activation="tanh", squash="tanh")
        weak = save_low_level_policy(folder / f"{robot}-policy.npz", policy)
        options += ["--policy", str(weak)]
    options += ["--num-workers", "0"]  # starting Ray takes longer than these few episodes
    outcome = rllib("data", "generate", name, *options, "-o", folder / "")
    assert outcome.code == 0, outcome.err


def test_every_dataset_of_the_paper_can_be_generated() -> None:
    assert {task.dataset for task in paper_tasks()} == set(GENERATED)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_offline_and_online_phase(
    name: str,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rllib_here: Command,
) -> None:
    monkeypatch.setenv("RLLIB_FMQ_DATA_DIR", str(data_dir))
    task = find_task(name)
    assert task is not None
    generate(task.dataset, data_dir, rllib_here)
    table = load_dataset("auto", name, download=False)
    assert (table.obs_dim, table.action_dim) == (task.obs_dim, task.action_dim)
    if "maze" not in task.name:
        assert table.terminated.any(), "no success in the data"

    if name in BY_COMMAND:
        last = train_by_command(name, table.num_steps, tmp_path, rllib_here)
    else:
        last = train_here(name)
    assert last["done"] and last["num_online_env_steps"] >= 60
    assert last["num_updates"] == 20 + last["num_online_env_steps"] - 10


def train_by_command(name: str, num_rows: int, folder: Path, rllib: Command) -> dict[str, Any]:
    outcome = rllib(
        *("train", "--algo", "FMQ", "--env", name, "--config", TINY),
        *("--offline-updates", "20", "--online-env-steps", "60", "--evaluation-interval", "0"),
        *("--storage-path", folder, "-n", "run", "--no-artifacts"),
    )
    assert outcome.code == 0, outcome.err
    assert f"{num_rows:,} transitions" in outcome.out
    (result,) = folder.glob("run/*/result.json")
    last: dict[str, Any] = json.loads(result.read_text().splitlines()[-1])
    return last


def train_here(name: str) -> dict[str, Any]:
    config = FMQConfig().environment(name).offline_data(dataset="auto")
    phases = {"offline_updates": 20, "online_env_steps": 60, "evaluation_interval": None}
    config.update_from_dict(json.loads(TINY) | phases)
    algo = config.build_algo()
    try:
        while not (result := algo.train())["done"]:
            pass
    finally:
        algo.stop()
    last: dict[str, Any] = result
    return last
