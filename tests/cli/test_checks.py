"""What is looked at before Ray starts, without harm to anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from rllib_fmq import FMQConfig
from rllib_fmq.cli import checks
from rllib_fmq.cli.configuration import from_file
from rllib_fmq.cli.errors import CommandError
from rllib_fmq.cli.options import TrainOptions
from rllib_fmq.studies.identity import full_config
from tests.rollout.faulty import Faulty


class Moving(Faulty):
    """Tells what was done to it."""

    done: ClassVar[list[str]] = []

    def reset(self, **arguments: Any) -> Any:
        self.done.append("reset")
        return super().reset(**arguments)

    def step(self, action: np.ndarray) -> Any:
        self.done.append("step")
        return super().step(action)


class Robot(Moving):
    metadata = {"resume_episodes": False}  # noqa: RUF012


@pytest.mark.parametrize(
    ("kind", "resume_episodes", "moved"),
    [(Moving, True, ["reset", "step"]), (Moving, False, []), (Robot, True, [])],
)
def test_a_robot_is_not_moved(kind: type[Moving], resume_episodes: bool, moved: list[str]) -> None:
    Moving.done.clear()
    config = FMQConfig().environment(kind).offline_data(dataset=None)
    config.fault_tolerance(resume_episodes=resume_episodes)
    checks._check_data(config)
    assert Moving.done == moved


def run_file(folder: Path, stop: str) -> Path:
    path = folder / "run.py"
    lines = ("from rllib_fmq import FMQConfig", "import numpy as np", "config = FMQConfig()")
    path.write_text("\n".join([*lines, f"stop = {stop}"]))
    return path


def test_a_run_may_stop_at_a_flag(tmp_path: Path) -> None:
    request = from_file(run_file(tmp_path, "{'done': True, 'steps': np.int64(3)}"), TrainOptions())
    assert request.stop == {"done": True, "steps": 3}
    with pytest.raises(CommandError, match="'done' is False, expected a number, or True"):
        from_file(run_file(tmp_path, "{'done': False}"), TrainOptions())


def test_numbers_of_numpy_are_numbers() -> None:
    config, same = (FMQConfig().environment("Pendulum-v1") for _ in range(2))
    config.training(
        horizon_length=np.int64(3),
        eta=np.float32(0.5),
        actor_hidden=(np.int64(16), 16),
        target_selector={"kind": "qgbs", "beam_width": np.int32(2)},
    ).phases(offline_updates=np.int64(7)).env_runners(num_env_runners=np.int8(1))
    same.training(
        horizon_length=3,
        eta=0.5,
        actor_hidden=(16, 16),
        target_selector={"kind": "qgbs", "beam_width": 2},
    ).phases(offline_updates=7).env_runners(num_env_runners=1)
    config.validate()
    same.validate()
    assert full_config(config) == full_config(same)
    assert type(config.offline_updates) is int
    with pytest.raises(ValueError, match="horizon_length=True"):
        FMQConfig().training(horizon_length=np.True_).validate()
