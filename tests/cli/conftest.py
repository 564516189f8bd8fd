"""The command in this process, and one small real run that several tests look at."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from rllib_fmq.data.formats.transitions_npz import save_transitions
from tests.command import Command, Outcome, restored, run_rllib

TINY = (
    '{"actor_hidden": [16], "critic_hidden": [16], "num_candidates": 2, "horizon_length": 2, '
    '"diagonal_warmup_updates": 2, "interval_anneal_end": 10, "updates_per_iteration": 20, '
    '"learning_starts": 10, "train_batch_size_per_learner": 16, "rollout_fragment_length": 20}'
)
PENDULUM = "Pendulum-v1"


@pytest.fixture()
def rllib(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """``rllib("plot", folder)`` in this process; for calls that do not start Ray."""
    from rllib_fmq.cli import main

    monkeypatch.setattr(sys, "argv", ["rllib"])

    def call(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    with restored():
        yield call


@pytest.fixture(scope="session")
def pendulum_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes of random actions in Pendulum."""
    env = gym.make(PENDULUM)
    env.action_space.seed(0)
    columns: dict[str, list[object]] = {
        name: []
        for name in (
            *("observations", "actions", "rewards"),
            *("next_observations", "terminated", "truncated"),
        )
    }
    for episode in range(4):
        obs, _ = env.reset(seed=episode)
        done = False
        while not done:
            action = env.action_space.sample()
            following, reward, terminated, truncated, _ = env.step(action)
            row = (obs, action, reward, following, terminated, truncated)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
            obs, done = following, terminated or truncated
    path = tmp_path_factory.mktemp("pendulum") / "pendulum.npz"
    return save_transitions(path, **{k: np.asarray(v) for k, v in columns.items()})


@pytest.fixture(scope="session")
def pendulum_run(
    pendulum_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """Storage folder and output of `rllib train` with FMQ on Pendulum, experiment "run"."""
    storage = tmp_path_factory.mktemp("results")
    outcome = run_rllib(
        *("train", "--algo", "FMQ", "--env", PENDULUM, "--dataset", pendulum_data),
        *("--config", TINY, "--offline-updates", "40", "--online-env-steps", "40"),
        *("--eta", "0.5", "--seed", "3", "--evaluation-interval", "1"),
        *("--evaluation-episodes", "1", "--checkpoint-freq", "1"),
        *("--storage-path", storage, "-n", "run"),
    )
    assert outcome.code == 0, outcome.err
    return storage, outcome
