"""Help, versions, options: what needs no Ray."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time

import pytest

from rllib_fmq.cli.options import TrainOptions
from tests.command import Command


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train"],
        ["train", "file"],
        ["evaluate"],
        ["plot"],
        ["data", "list"],
        ["data", "download"],
        ["data", "generate"],
        ["data", "convert"],
        ["data", "info"],
    ],
)
def test_help(rllib: Command, arguments: list[str]) -> None:
    outcome = rllib(*arguments, "--help")
    assert outcome.code == 0
    assert "Usage:" in outcome.out and not outcome.err


def test_train_has_the_options_of_rllibs_old_command(
    rllib: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = rllib("train", "--help").out
    for option in (
        *("--algo", "--run", "-a", "--env", "-e", "--config", "-c", "--stop", "-s"),
        *("--num-samples", "--checkpoint-freq", "--checkpoint-at-end", "--storage-path"),
        *("--restore", "--resume", "--experiment-name", "-n", "--verbose", "-v"),
        *("--ray-address", "--ray-num-cpus", "--ray-num-gpus"),
        *("--dataset", "--eta", "--beta", "--seed", "--num-env-runners", "--num-learners"),
        *("--num-gpus-per-learner", "--offline-updates", "--online-env-steps"),
        *("--evaluation-interval", "--evaluation-episodes"),
    ):
        assert option in text, option


def test_train_file_has_them_too(rllib: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = rllib("train", "file", "--help").out
    for field in dataclasses.fields(TrainOptions):
        assert f"--{field.name.replace('_', '-')}" in text
    assert "run as code" in text


def test_version(rllib: Command) -> None:
    from rllib_fmq import __version__

    assert rllib("--version").out.startswith(f"rllib-fmq {__version__}, ray ")


def test_help_does_not_load_ray_or_torch() -> None:
    code = (
        "import sys; sys.argv = ['rllib', '--help']\n"
        "from rllib_fmq.cli import main\n"
        "code = main()\n"
        "heavy = {'ray', 'torch', 'gymnasium', 'mujoco', 'matplotlib'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, heavy\n"
    )
    start = time.monotonic()
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert not process.stderr
    # Under a second on an idle machine.
    assert time.monotonic() - start < 10
