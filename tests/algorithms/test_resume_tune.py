"""Under Ray Tune: rows go to the trial's storage, dead processes are survived, disk use bounded."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from rllib_fmq.checkpointing.manifest import MANIFEST
from rllib_fmq.rollout.checkpoints import find_checkpoint
from tests.algorithms.exact import drift_config, write_drift


def fit(config: Any, folder: Path, **checkpoints: Any) -> Any:
    return tune.Tuner(
        "FMQ",
        param_space=config,
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(folder),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=1, checkpoint_at_end=True, **checkpoints
            ),
        ),
    ).fit()


def rows_of(checkpoint: Path) -> set[str]:
    content = json.loads((checkpoint / "replay_index.json").read_text())
    return {segment["name"] for segment in content["index"]["segments"]}


def leave_a_segment(algorithm: Any) -> None:
    """As a save does that is cut off before its checkpoint is complete."""
    replay = Path(algorithm._storage.trial_fs_path, "replay")
    (replay / "rows-000000000-000000014-0123456789abcdef.npz").write_bytes(b"rows")


def kill_self_once(*, algorithm: Any, result: Any, marker: str, **kwargs: Any) -> None:
    """End the trial's own process after its third iteration, the first time."""
    if result["training_iteration"] == 4 and not Path(marker).exists():
        Path(marker).write_text(str(algorithm.num_updates))
        leave_a_segment(algorithm)
        os.kill(os.getpid(), signal.SIGKILL)


def kill_learner_once(*, algorithm: Any, result: Any, marker: str, **kwargs: Any) -> None:
    """End the remote learner after the fourth iteration, the first time."""
    if result["training_iteration"] == 4 and not Path(marker).exists():
        (pid,) = algorithm.ask_learners(lambda learner: os.getpid())
        Path(marker).write_text(str(pid))
        leave_a_segment(algorithm)
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill", "learners"), [(kill_self_once, 0), (kill_learner_once, 1)], ids=["trial", "learner"]
)
def test_a_killed_process_costs_what_came_after_the_last_checkpoint(
    ray_session: None, tmp_path: Path, kill: Callable[..., None], learners: int
) -> None:
    dataset = write_drift(tmp_path / "drift.npz")
    marker = str(tmp_path / "killed")
    config = (
        drift_config("FMQ", dataset)
        .env_runners(num_envs_per_env_runner=1)  # several step together, maybe past the last one
        .learners(num_learners=learners)
        .callbacks(on_train_result=partial(kill, marker=marker))
    )
    (result,) = fit(config, tmp_path, num_to_keep=2)
    assert result.error is None and Path(marker).exists()
    assert result.metrics["done"] and result.metrics["num_online_env_steps"] == 70
    trial = Path(result.path)
    kept = sorted(trial.glob("checkpoint_*"))
    assert len(kept) <= 3  # of a kill one may be left that Tune does not know
    assert find_checkpoint(trial) == kept[-1]
    assert all((checkpoint / MANIFEST).is_file() for checkpoint in kept)
    assert not list(trial.glob("checkpoint_*/*.npz"))
    # All that a checkpoint refers to, and nothing else, nor a part of something.
    segments = {path.name for path in (trial / "replay").iterdir()}
    assert set().union(*map(rows_of, kept)) == segments
    index = json.loads((kept[-1] / "replay_index.json").read_text())["index"]
    assert index["num_added"] - index["num_offline"] == 70
    lines = (trial / "result.json").read_text().splitlines()
    steps = [json.loads(line)["num_online_env_steps"] for line in lines]
    assert steps[-1] == 70 and steps == sorted(steps)
