"""A planner without networks, for tests of what is around it."""

from __future__ import annotations

import numpy as np

from rllib_fmq.serving.policy import Action, Floats, PolicyInfo

INFO = PolicyInfo(
    algorithm="FMQ",
    env="Test-v0",
    obs_size=3,
    parts=(),
    low=np.array([-2.0, 0.0], np.float32),
    high=np.array([1.0, 5.0], np.float32),
    horizon_length=3,
    selector="sample",
    nfe=1,
    noise={"noise": (1, 6)},
)


def plain_plan(row: Floats, noise: dict[str, Floats]) -> Action:
    """A chunk (3, 2) that tells its observation and its noise from all others."""
    return row[:2] + noise["noise"].reshape(3, 2)
