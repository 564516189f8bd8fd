"""Whatever a user gets wrong: one clear line, a non-zero exit, nothing half written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import PENDULUM
from tests.command import Command

Spoil = Callable[[dict[str, np.ndarray]], None]


def check_refusal(rllib: Command, folder: Path, *arguments: str | Path) -> str:
    """Run a command that must be refused; returns its one line."""
    before = sorted(folder.rglob("*"))
    outcome = rllib(*arguments)
    assert outcome.code in (1, 2)
    assert outcome.err.count("\n") == 1 and outcome.err.startswith("rllib: "), outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    assert sorted(folder.rglob("*")) == before
    return outcome.err


def train(data: Path, storage: Path, *arguments: str | Path) -> list[str | Path]:
    return [
        *("train", "--algo", "FMQ", "--env", PENDULUM, "--dataset", data),
        *("--storage-path", storage),
        *arguments,
    ]


def spoilt(data: Path, target: Path, spoil: Spoil) -> Path:
    with np.load(data) as archive:
        arrays = {name: archive[name] for name in archive.files}
    spoil(arrays)
    np.savez(target, **arrays)
    return target


def drop_entry(*names: str) -> Spoil:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        for name in names:
            arrays[name] = arrays[name][:, :-1]

    return spoil


def second_action(arrays: dict[str, np.ndarray]) -> None:
    arrays["actions"] = np.repeat(arrays["actions"], 2, axis=1)


def one_nan(arrays: dict[str, np.ndarray]) -> None:
    arrays["observations"][7, 1] = np.nan
    arrays["next_observations"][6, 1] = np.nan


def test_missing_dataset(rllib: Command, tmp_path: Path) -> None:
    line = check_refusal(rllib, tmp_path, *train(tmp_path / "none.npz", tmp_path / "results"))
    assert "not found" in line and "none.npz" in line


def test_truncated_dataset(rllib: Command, tmp_path: Path, pendulum_data: Path) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(pendulum_data.read_bytes()[:-100])
    line = check_refusal(rllib, tmp_path, *train(broken, tmp_path / "results"))
    assert "broken.npz" in line and "truncated" in line


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            drop_entry("observations", "next_observations"),
            r"observations of size 2, but the environment's have size 3",
        ),
        (second_action, r"actions of size 2, but the environment's have size 1"),
        (one_nan, r"nan at row 7, entry 1"),
    ],
    ids=["observation-size", "action-size", "nan"],
)
def test_unfit_dataset(
    rllib: Command, tmp_path: Path, pendulum_data: Path, spoil: Spoil, expected: str
) -> None:
    data = spoilt(pendulum_data, tmp_path / "spoilt.npz", spoil)
    line = check_refusal(rllib, tmp_path, *train(data, tmp_path / "results"))
    assert re.search(expected, line) and "spoilt.npz" in line


def test_cube_dataset_of_another_size(rllib: Command, tmp_path: Path, cube_single: Path) -> None:
    line = check_refusal(
        rllib,
        tmp_path,
        *("train", "--algo", "FMQ", "--env", "cube-double-play-singletask-task1-v0"),
        *("--dataset", cube_single, "--storage-path", tmp_path / "results"),
    )
    assert "cube-single-play-v0.npz" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--algo", "FQM", "--env", PENDULUM], "unknown algorithm 'FQM'. Did you mean 'FMQ'"),
        (["--algo", "fmq", "--env", PENDULUM], "Did you mean 'FMQ'"),
        (
            ["--algo", "FMQ", "--env", "cube-singel-play-singletask-task2-v0"],
            "Did you mean 'cube-single-play-singletask-task2-v0'",
        ),
        (["--algo", "PPO", "--env", "CartPole-v9"], "Did you mean 'CartPole-v1'"),
        (["--algo", "FMQ"], "--env is missing"),
        (["--env", PENDULUM], "--algo is missing"),
        (["--algo", "PPO", "--env", "CartPole-v1", "--eta", "1"], "PPO has no such setting"),
        (
            ["--algo", "PPO", "--env", "CartPole-v1", "--config", '{"lrr": 1}'],
            "PPO has no config key 'lrr'. Did you mean 'lr'",
        ),
        (["--resume"], "--resume needs --experiment-name"),
        (["--resume", "-n", "nothing"], "no experiment 'nothing'"),
        (["--resume", "-n", "x", "--algo", "FMQ"], "leave --algo and --env away"),
        (["--resume", "-n", "x", "--seed", "1"], "leave --seed away"),
        (["--etaa", "1"], "--etaa"),
        (["--eta", "much"], "--eta"),
        (["file", "nothing.py"], "no such file"),
        (["--seed", "1", "file", "nothing.py"], "go behind the file's name"),
    ],
)
def test_names_and_usage(
    rllib: Command, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    subcommand = arguments[:2] if arguments[0] == "file" else []
    rest = arguments[len(subcommand) :]
    storage = [] if "file" in rest else ["--storage-path", str(tmp_path / "results")]
    line = check_refusal(rllib, tmp_path, "train", *subcommand, *storage, *rest)
    assert expected in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", '{"etaa": 1.0}'], "FMQ has no config key 'etaa'. Did you mean 'eta'"),
        (["--config", '{"eta": '], "not valid JSON"),
        (["--config", "no-such.json"], "neither JSON"),
        (["--config", '{"distillation": "esdd"}'], "Did you mean 'esd'"),
        (
            ["--config", '{"eta": {"grid_search": [0.1, -1.0]}}'],
            "eta=-1.0: must be a number >= 0",
        ),
        (["--stop", '{"training_iteration": "soon"}'], "expected a number"),
        (["--eta", "-1"], "eta=-1.0"),
        (["--restore", "no/checkpoint"], "checkpoint not found: no/checkpoint"),
        (["--initial-checkpoint", "no/checkpoint"], "checkpoint not found: no/checkpoint"),
        (["--ray-num-cpus", "1", "--num-learners", "2"], "one trial needs 3"),
        (["--env", "CartPole-v1"], "Discrete(2) is not supported"),
    ],
)
def test_settings(
    rllib: Command, tmp_path: Path, pendulum_data: Path, arguments: list[str], expected: str
) -> None:
    line = check_refusal(rllib, tmp_path, *train(pendulum_data, tmp_path / "results", *arguments))
    assert expected in line


def test_checkpoint_folder_without_checkpoint(
    rllib: Command, tmp_path: Path, pendulum_data: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (
        train(pendulum_data, tmp_path / "results", "--restore", tmp_path / "empty"),
        ["evaluate", tmp_path / "empty"],
    ):
        assert "no checkpoint in" in check_refusal(rllib, tmp_path, *arguments)


def test_existing_experiment_is_not_written_to(
    rllib: Command, tmp_path: Path, pendulum_data: Path
) -> None:
    (tmp_path / "results" / "mine").mkdir(parents=True)
    (tmp_path / "results" / "mine" / "precious").touch()
    line = check_refusal(rllib, tmp_path, *train(pendulum_data, tmp_path / "results", "-n", "mine"))
    assert "exists" in line and "--resume" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_storage_that_cannot_be_written(
    rllib: Command, tmp_path: Path, pendulum_data: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    line = check_refusal(rllib, tmp_path, *train(pendulum_data, closed / "results"))
    assert "not a folder to write to" in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("x = 1\n", "defines no `config`"),
        ("config = 3\n", "`config` = 3"),
        ("import nothing_like_this\n", "No module named 'nothing_like_this'"),
        ("raise SystemExit(3)\n", "failed"),
    ],
)
def test_config_files(rllib: Command, tmp_path: Path, content: str, expected: str) -> None:
    file = tmp_path / "config.py"
    file.write_text(content)
    assert expected in check_refusal(rllib, tmp_path, "train", "file", file)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["evaluate"], "CHECKPOINT"),
        (["evaluate", "nowhere"], "nowhere does not exist"),
        (["evaluate", "nowhere", "--selector", "qgsb"], "qgbs"),
        (["evaluate", "nowhere", "--video", "film.gif"], "must end in .mp4"),
        (["plot", "nowhere"], "nowhere does not exist"),
        (["data", "info", "nowhere.npz"], "nowhere.npz"),
        (["data", "generate", "cube-singel-play-v0"], "cube-single-play-v0"),
    ],
)
def test_other_commands(
    rllib: Command, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    assert expected in check_refusal(rllib, tmp_path, *arguments)
