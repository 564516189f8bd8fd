"""Small demonstrations of a made-up robot, whose every number tells where it belongs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_fmq.data.formats.robomimic_writer import Demo

ENV_ARGS = {"env_name": "PickPlaceCan", "type": 1, "env_kwargs": {"robots": ["Panda"]}}
SIZES = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2, "object": 14}
OBS_DIM = sum(SIZES.values())


def make_demo(number: int, steps: int, *, success: bool = True, action_dim: int = 7) -> Demo:
    """Demonstration whose observations are number + step / 1000 + entry / 10000 + key / 10."""
    observations = {}
    for index, (key, size) in enumerate(SIZES.items()):
        step = np.arange(steps + 1)[:, None] / 1000
        entry = np.arange(size)[None, :] / 10000
        observations[key] = (number + step + entry + index / 10).astype(np.float32)
    rng = np.random.default_rng(number)
    last = np.zeros(steps)
    last[-1] = 1.0
    return Demo(
        obs={key: array[:-1] for key, array in observations.items()},
        next_obs={key: array[1:] for key, array in observations.items()},
        actions=rng.uniform(-1, 1, (steps, action_dim)),
        rewards=last * success,
        dones=last,
        states=rng.normal(size=(steps, 11)),
        attrs={"tier": "better", "number": number},
    )


def make_demos(lengths: Sequence[int]) -> list[Demo]:
    """One demonstration for each length; those of odd number fail."""
    return [
        make_demo(number, steps, success=number % 2 == 0) for number, steps in enumerate(lengths)
    ]


def joined(demo: Demo, which: str = "obs") -> np.ndarray:
    """A demonstration's observations as one array, in the order of the vector."""
    return np.concatenate([np.asarray(getattr(demo, which)[key]) for key in SIZES], axis=1)
