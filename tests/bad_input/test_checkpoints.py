"""Checkpoints of which any file is missing, cut, changed or somebody else's."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq import FMQConfig
from rllib_fmq.checkpointing.manifest import MANIFEST, write_manifest
from rllib_fmq.learner.initial_checkpoint import read_initial_state
from rllib_fmq.rollout.checkpoints import load_policy
from tests.bad_input.cases_dataset import good_arrays, npz
from tests.bad_input.harness import Case, Record, check, fmq, snapshot
from tests.cli.conftest import PENDULUM
from tests.command import Command

pytestmark = pytest.mark.timeout(300)

COPY = "damaged"
"""The damaged checkpoint in a case's folder."""
SIZES = '{"horizon_length": 2, "actor_hidden": [8], "critic_hidden": [8]}'
"""Those of the checkpoint's networks."""
Damage = Callable[[Path], None]


@pytest.fixture(scope="session")
def checkpoint(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's checkpoint after the offline phase, with tiny networks and episodes of 3 steps."""
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "data.npz").write_bytes(npz(good_arrays()))
    config = (
        FMQConfig()
        .environment(PENDULUM, env_config={"max_episode_steps": 3})
        .offline_data(dataset=str(folder / "data.npz"))
        .env_runners(rollout_fragment_length=5)
        .training(
            horizon_length=2,
            actor_hidden=(8,),
            critic_hidden=(8,),
            num_candidates=2,
            diagonal_warmup_updates=1,
            interval_anneal_end=2,
            train_batch_size_per_learner=4,
        )
        .phases(offline_updates=2, online_env_steps=20, updates_per_iteration=2, learning_starts=2)
        .evaluation(evaluation_interval=None)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    try:
        algo.train()
        algo.train()
        return Path(algo.save_to_path(str(folder / "checkpoint_000000")))
    finally:
        algo.stop()


def _changed(change: Callable[[bytes], bytes]) -> Damage:
    def damage(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return damage


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


DAMAGE: dict[str, Damage] = {
    "missing": Path.unlink,
    "empty": _changed(lambda content: b""),
    "cut": _changed(lambda content: content[: len(content) // 2]),
    "flipped": _changed(_flipped),
    "garbage": _changed(lambda content: bytes(range(256))),
}


def _files(checkpoint: Path) -> list[Path]:
    return [p.relative_to(checkpoint) for p in sorted(checkpoint.rglob("*")) if p.is_file()]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_of_any_file_is_noticed(
    rllib: Command, checkpoint: Path, folder: Path, tried: Record, damage: str
) -> None:
    """Each command looks at every third file, the reader itself at all."""
    files = _files(checkpoint)
    assert len(files) >= 5
    commands = (
        ("evaluate", COPY, "--episodes", "1"),
        fmq("--initial-checkpoint", COPY),
        fmq("--restore", COPY),
    )
    for number, file in enumerate(files):
        shutil.rmtree(folder / COPY, ignore_errors=True)
        shutil.copytree(checkpoint, folder / COPY)
        DAMAGE[damage](folder / COPY / file)
        check(rllib, folder, Case(f"{damage} {file}", commands[number % 3], COPY))
        with pytest.raises((ValueError, FileNotFoundError), match=COPY):
            load_policy(folder / COPY)
        tried("checkpoint", 1)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_networks_are_not_started_from(checkpoint: Path, folder: Path, damage: str) -> None:
    """Also where the caller did not look at the manifest first: never anything but a refusal."""
    for file in _files(checkpoint):
        shutil.rmtree(folder / COPY, ignore_errors=True)
        shutil.copytree(checkpoint, folder / COPY)
        DAMAGE[damage](folder / COPY / file)
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            read_initial_state(folder / COPY)
            if file.name not in ("module_state.pkl", "state.pkl", MANIFEST):
                raise FileNotFoundError(f"{COPY}: it was not looked at")
        assert COPY in str(caught.value) and "\n" not in str(caught.value), file


def _rewrite(name: str, change: Callable[[Any], Any]) -> Damage:
    def apply(copy: Path) -> None:
        path = copy / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return apply


class _Canary:
    """Unpickling it makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("unpickled"),))


def _canary(copy: Path) -> None:
    for file in copy.rglob("*state.pkl"):
        file.write_bytes(pickle.dumps(_Canary()))


def _one_weight_less(copy: Path) -> None:
    (file,) = copy.rglob("default_policy/module_state.pkl")
    state = pickle.loads(file.read_bytes())
    state.popitem()
    file.write_bytes(pickle.dumps(state))


def _one_weight_nan(copy: Path) -> None:
    (file,) = copy.rglob("default_policy/module_state.pkl")
    state = pickle.loads(file.read_bytes())
    name = next(iter(state))
    state[name] = np.full_like(state[name], np.nan)
    file.write_bytes(pickle.dumps(state))


# Contents that agree with the manifest, which is written anew, but not with what they should be.
FORGED: dict[str, tuple[Damage, str]] = {
    "code in the state": (_canary, "module_state.pkl"),
    "one weight less": (_one_weight_less, COPY),
    "a weight that is no number": (_one_weight_nan, "not finite"),
    "environment of code": (_rewrite("policy.json", lambda p: {**p, "env": "os:getcwd"}), "os:get"),
    "environment unknown": (_rewrite("policy.json", lambda p: {**p, "env": "Gone-v9"}), "Gone-v9"),
    "no environment": (_rewrite("policy.json", lambda p: {**p, "env": None}), COPY),
    "a list": (_rewrite("policy.json", lambda p: [p]), "policy.json"),
    "nothing": (_rewrite("policy.json", lambda p: {}), "policy.json"),
}


@pytest.mark.parametrize("forged", FORGED)
def test_forged_checkpoints(
    rllib: Command, checkpoint: Path, folder: Path, tried: Record, forged: str
) -> None:
    shutil.copytree(checkpoint, folder / COPY)
    forge, says = FORGED[forged]
    forge(folder / COPY)
    write_manifest(folder / COPY, {})
    check(rllib, folder, Case(forged, ("evaluate", COPY, "--episodes", "1"), says))
    assert not (folder / "unpickled").exists()
    tried("checkpoint", 1)


MANIFESTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "newer": (lambda m: {**m, "format_version": 99}, "format 99"),
    "version of no kind": (lambda m: {**m, "format_version": "new"}, MANIFEST),
    "no files": (lambda m: {k: v for k, v in m.items() if k != "files"}, MANIFEST),
    "files of no kind": (lambda m: {**m, "files": [1]}, MANIFEST),
    "sizes of no kind": (lambda m: {**m, "files": {"policy.json": ["x", "y"]}}, MANIFEST),
    "a file elsewhere": (lambda m: {**m, "files": {"../data.npz": [1, "x"]}}, "../data.npz"),
    "a list": (lambda m: [m], MANIFEST),
    "a number": (lambda m: 3, MANIFEST),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests(
    rllib: Command, checkpoint: Path, folder: Path, tried: Record, name: str
) -> None:
    shutil.copytree(checkpoint, folder / COPY)
    change, says = MANIFESTS[name]
    _rewrite(MANIFEST, change)(folder / COPY)
    check(rllib, folder, Case(name, ("evaluate", COPY, "--episodes", "1"), says))
    tried("checkpoint", 1)


ARGUMENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "a qgbs option": (("evaluate", COPY, "--beam-width", "3"), "--beam-width"),
    "an euler option": (("evaluate", COPY, "--euler-steps", "3"), "--euler-steps"),
    "candidates of one sample": (
        ("evaluate", COPY, "--selector", "sample", "--num-candidates", "3"),
        "--num-candidates",
    ),
    "no noise": (("evaluate", COPY, "--selector", "qgbs", "--snr", "0"), "snr=0"),
    "NaN noise": (("evaluate", COPY, "--selector", "qgbs", "--snr", "nan"), "snr=nan"),
    "endless step": (("evaluate", COPY, "--selector", "qgbs", "--eta", "inf"), "eta=inf"),
    "output in a file": (
        ("evaluate", COPY, "--episodes", "1", "-o", "data.npz/o.json"),
        "data.npz",
    ),
    "other networks": (fmq("--restore", COPY), "horizon_length"),
    "both": (
        fmq("--restore", COPY, "--initial-checkpoint", COPY, "--config", SIZES),
        "one of the two",
    ),
    "offline too": (fmq("--initial-checkpoint", COPY, "--offline-updates", "5"), COPY),
    "its part": (("evaluate", f"{COPY}/learner_group"), "learner_group"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_sound_checkpoints_used_wrongly(
    rllib: Command, checkpoint: Path, folder: Path, tried: Record, name: str
) -> None:
    shutil.copytree(checkpoint, folder / COPY)
    arguments, says = ARGUMENTS[name]
    check(rllib, folder, Case(name, arguments, says))
    tried("checkpoint", 1)


def test_the_undamaged_checkpoint_is_evaluated(
    rllib: Command, checkpoint: Path, folder: Path
) -> None:
    shutil.copytree(checkpoint, folder / COPY)
    before = snapshot(folder / COPY)
    outcome = rllib("evaluate", COPY, "--episodes", "1", "-o", "outcomes.json")
    assert outcome.code == 0, outcome.err
    assert json.loads((folder / "outcomes.json").read_text())["num_episodes"] == 1
    assert snapshot(folder / COPY) == before
    assert read_initial_state(folder / COPY).num_updates >= 2
