"""Nothing in a checkpoint runs unless the user says --trust."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rllib_fmq import FMQConfig
from rllib_fmq.checkpointing.manifest import MANIFEST, write_manifest
from rllib_fmq.checkpointing.policy_file import POLICY_FILE
from rllib_fmq.checkpointing.trust import CONSTRUCTOR, TrustNeededError
from rllib_fmq.cli.errors import CommandError
from rllib_fmq.cli.options import TrainOptions
from rllib_fmq.learner.initial_checkpoint import read_initial_state
from rllib_fmq.rollout.checkpoints import evaluate_checkpoint, load_policy
from tests.cli.conftest import PENDULUM, TINY
from tests.command import Command

MODULE_STATE = "learner_group/learner/rl_module/default_policy/module_state.pkl"
RUNNER_STATE = "env_runner/state.pkl"


@pytest.fixture(scope="module")
def trained(
    ray_session: None, pendulum_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Path]]:
    """An algorithm after a moment of training, and its checkpoint."""
    config = FMQConfig().environment(PENDULUM, env_config={"max_episode_steps": 3})
    config.offline_data(dataset=str(pendulum_data))
    config.update_from_dict(json.loads(TINY))
    config.phases(offline_updates=2, online_env_steps=0, updates_per_iteration=2)
    config.evaluation(evaluation_interval=None)
    algorithm = config.build_algo()
    algorithm.train()
    path = algorithm.save_to_path(str(tmp_path_factory.mktemp("trust") / "checkpoint"))
    yield algorithm, Path(path)
    algorithm.stop()


@pytest.fixture()
def canary(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture()
def checkpoint(trained: tuple[Any, Path], tmp_path: Path) -> Path:
    """A copy to spoil, beside its replay."""
    source = trained[1]
    if (source.parent / "replay").is_dir():
        shutil.copytree(source.parent / "replay", tmp_path / "replay")
    return Path(shutil.copytree(source, tmp_path / "checkpoint"))


class Touch:
    """Unpickles to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def sign(checkpoint: Path) -> None:
    """What whoever changes a checkpoint would do as well."""
    (checkpoint / MANIFEST).unlink()
    write_manifest(checkpoint, {})


def plant(file: Path, canary: Path) -> None:
    with open(file, "wb") as stream:
        pickle.dump({"a": Touch(canary)}, stream)


def one_line(text: str) -> str:
    assert text.count("\n") == 1 and text.startswith("rllib: "), text
    return text


def describe(checkpoint: Path, **changes: Any) -> None:
    path = checkpoint / POLICY_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    sign(checkpoint)


def restoring(checkpoint: Path, data: Path, storage: Path) -> list[str | Path]:
    return [
        *("train", "--algo", "FMQ", "--env", PENDULUM, "--dataset", data, "--config", TINY),
        *("--restore", checkpoint, "--storage-path", storage),
    ]


def test_evaluation_unpickles_no_foreign_code(
    checkpoint: Path, canary: Path, rllib: Command
) -> None:
    for file in checkpoint.rglob(CONSTRUCTOR):
        plant(file, canary)
    sign(checkpoint)
    outcome = rllib("evaluate", checkpoint, "--episodes", "2")
    assert outcome.code == 0, outcome.err
    assert f"FMQ on {PENDULUM}" in outcome.out and " 3.0 steps" in outcome.out
    assert not canary.exists()


def test_parameters_are_plain_state_even_with_trust(
    checkpoint: Path, canary: Path, rllib: Command
) -> None:
    plant(checkpoint / MODULE_STATE, canary)
    sign(checkpoint)
    for trust in ([], ["--trust"]):
        outcome = rllib("evaluate", checkpoint, "--episodes", "1", *trust)
        assert outcome.code == 1
        line = one_line(outcome.err)
        assert "module_state.pkl: it names pathlib." in line and "--trust" not in line
    with pytest.raises(ValueError, match=r"it names pathlib\."):
        read_initial_state(checkpoint)
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["pickle", "msgpack", "link"])
def test_restore_reads_plain_state_only(
    kind: str,
    trained: tuple[Any, Path],
    checkpoint: Path,
    canary: Path,
    pendulum_data: Path,
    tmp_path: Path,
    rllib: Command,
) -> None:
    if kind == "pickle":
        plant(checkpoint / RUNNER_STATE, canary)
    elif kind == "msgpack":
        (checkpoint / "env_runner" / "state.msgpack").write_bytes(b"\x80")
    else:
        moved = shutil.move(checkpoint / "env_runner", tmp_path / "elsewhere")
        plant(Path(moved) / "state.pkl", canary)
        (checkpoint / "env_runner").symlink_to(moved)
    sign(checkpoint)
    outcome = rllib(*restoring(checkpoint, pendulum_data, tmp_path / "results"))
    assert outcome.code == 1 and "give --trust" in one_line(outcome.err)
    assert not (tmp_path / "results").exists()
    with pytest.raises(TrustNeededError, match="trust=True"):
        trained[0].restore_from_path(str(checkpoint))
    assert not canary.exists()


def test_a_good_checkpoint_is_restored_without_a_word(trained: tuple[Any, Path]) -> None:
    algorithm, path = trained
    algorithm.restore_from_path(str(path))
    assert algorithm.num_updates == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"env": "os:system", "env_config": {"command": "touch CANARY"}},
        {"env": "subprocess:Popen", "env_config": {"args": ["touch", "CANARY"]}},
        {"env_config": {"success_fn": "os:system"}},
        {"env": "tests.cli.test_trust:nothing", "env_config": {}},
        {"env": "GymV26Environment-v0", "env_config": {"env_id": "os:x"}},
    ],
    ids=lambda changes: str(changes.get("env", "success_fn")),
)
def test_an_environment_that_is_code_needs_trust(
    changes: dict[str, Any], checkpoint: Path, canary: Path, rllib: Command
) -> None:
    describe(checkpoint, **json.loads(json.dumps(changes).replace("CANARY", str(canary))))
    for workers in ("0", "1"):
        outcome = rllib("evaluate", checkpoint, "--episodes", "1", "--num-workers", workers)
        assert outcome.code == 1
        line = one_line(outcome.err)
        assert "code that would be imported and called" in line and "--trust" in line
    assert not canary.exists()


def test_a_factory_of_ones_own_with_trust(checkpoint: Path, rllib: Command) -> None:
    factory = "gymnasium.envs.classic_control:PendulumEnv"
    describe(checkpoint, env=factory)
    outcome = rllib("evaluate", checkpoint, "--episodes", "1", "--trust")
    assert outcome.code == 0, outcome.err
    assert factory in outcome.out
    describe(checkpoint, env=None, env_config={}, env_missing="env is a function")
    outcome = rllib("evaluate", checkpoint, "--episodes", "1")
    assert "does not say" in one_line(outcome.err) and "--trust" in outcome.err
    outcome = rllib("evaluate", checkpoint, "--episodes", "1", "--trust")
    assert outcome.code == 0, outcome.err  # from RLlib's pickled config
    assert f"FMQ on {PENDULUM}" in outcome.out


def test_older_checkpoints_need_trust(checkpoint: Path, canary: Path, rllib: Command) -> None:
    (checkpoint / POLICY_FILE).unlink()
    sign(checkpoint)
    outcome = rllib("evaluate", checkpoint, "--episodes", "1")
    assert outcome.code == 1
    assert "needs RLlib's pickled config" in one_line(outcome.err) and "--trust" in outcome.err
    outcome = rllib("evaluate", checkpoint, "--episodes", "1", "--trust")
    assert outcome.code == 0, outcome.err


def test_who_has_the_config_needs_no_trust(trained: tuple[Any, Path], checkpoint: Path) -> None:
    config = trained[0].config
    (checkpoint / POLICY_FILE).unlink()
    sign(checkpoint)
    expected = evaluate_checkpoint(trained[1], None, [5])
    (outcome,) = evaluate_checkpoint(checkpoint, None, [5], config=config)
    assert outcome.episode_return == expected[0].episode_return


def test_a_record_of_other_sizes_costs_no_memory(checkpoint: Path) -> None:
    content = json.loads((checkpoint / POLICY_FILE).read_text())
    huge = content["model_config"] | {"actor_hidden": [10**6, 10**6]}
    describe(checkpoint, model_config=huge)
    with pytest.raises(ValueError, match=r"does not fit policy\.json"):
        load_policy(checkpoint)


def test_resume_asks_for_trust_before_it_reads_tunes_pickles(
    tmp_path: Path, canary: Path, rllib: Command
) -> None:
    trial = tmp_path / "mine" / "FMQ_1"
    trial.mkdir(parents=True)
    plant(tmp_path / "mine" / "tuner.pkl", canary)
    plant(trial / "params.pkl", canary)
    outcome = rllib("train", "--resume", "-n", "mine", "--storage-path", tmp_path)
    assert outcome.code == 1 and "give --trust" in one_line(outcome.err)
    assert not canary.exists()


def test_an_interrupted_run_says_how_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from rllib_fmq.cli import training

    monkeypatch.setattr("ray.shutdown", lambda: None)
    tuner = SimpleNamespace(fit=lambda: [SimpleNamespace(error=None, metrics={})])
    options = TrainOptions(storage_path="/my results/x")
    with pytest.raises(
        CommandError, match=r"rllib train --resume --trust -n run .*'/my results/x'"
    ):
        training._fit(tuner, options, "run")


def test_a_low_level_policy_that_is_a_pickle_needs_trust(tmp_path: Path, rllib: Command) -> None:
    (tmp_path / "checkpoint").mkdir()
    outcome = rllib(
        *("data", "generate", "antmaze-giant-navigate-v0", "--policy", tmp_path / "checkpoint"),
        *("-o", tmp_path / "out.npz"),
    )
    assert outcome.code == 1 and "Give --trust" in one_line(outcome.err)
