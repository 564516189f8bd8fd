"""The sizes that the suite measures at, and a random batch of windows for them (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

Method: TypeAlias = Literal["FMQ", "MVP", "QC"]


@dataclass(frozen=True)
class Sizes:
    """Sizes of one problem and of its networks; the defaults are the paper's."""

    obs_dim: int
    action_dim: int
    horizon: int = 5
    batch_size: int = 256
    hidden: tuple[int, ...] = (512, 512, 512, 512)
    time_features: int = 64
    num_critics: int = 2

    @property
    def action_size(self) -> int:
        """Numbers of a flattened chunk."""
        return self.horizon * self.action_dim


CUBE_DOUBLE = Sizes(obs_dim=37, action_dim=5)
ANTMAZE_GIANT = Sizes(obs_dim=29, action_dim=8)
TASKS = {"cube-double": CUBE_DOUBLE, "antmaze-giant": ANTMAZE_GIANT}
QUICK = Sizes(obs_dim=5, action_dim=2, batch_size=32, hidden=(32, 32, 32))
"""For a look at whether everything runs; its figures mean nothing."""

UPDATES: dict[str, tuple[Method, bool, int]] = {
    "FMQ-offline-1": ("FMQ", False, 1),
    "FMQ-offline-32": ("FMQ", False, 32),
    "FMQ-online-1": ("FMQ", True, 1),
    "FMQ-online-32": ("FMQ", True, 32),
    "MVP-online-1": ("MVP", True, 1),
    "MVP-online-32": ("MVP", True, 32),
    "QC-1": ("QC", False, 1),
    "QC-32": ("QC", False, 32),
}
"""Method, phase, candidates of the critic target. MVP offline is FMQ offline."""
SELECTORS = ("sample", "best_of_n", "qgbs", "euler")

NUM_CANDIDATES = 32
"""Candidates of best-of-N: of MVP's imitation target, and of acting."""
EULER_STEPS = 10
"""Steps of QC's integrator."""


def random_batch(sizes: Sizes, seed: int = 0) -> dict[str, np.ndarray]:
    """Windows as the replay gives them: some end in a termination, some are padded.

    Args:
        sizes: Sizes of the problem.
        seed: Of the numbers.
    Returns:
        obs and next_obs (B, o), actions and valid (B, H d), rewards (B, H), terminated (B, H) of
        bool, complete (B,); float32.
    """
    rng = np.random.default_rng(seed)
    b, h, d = sizes.batch_size, sizes.horizon, sizes.action_dim
    steps = np.where(rng.random(b) < 0.1, rng.integers(1, h + 1, b), h)
    terminated = np.zeros((b, h), dtype=bool)
    ends = rng.random(b) < 0.1
    terminated[ends, steps[ends] - 1] = True
    real = (np.arange(h) < steps[:, None]).astype(np.float32)
    return {
        "obs": rng.standard_normal((b, sizes.obs_dim), dtype=np.float32),
        "actions": rng.uniform(-1, 1, (b, h * d)).astype(np.float32),
        "valid": np.repeat(real, d, axis=1),
        "rewards": (-rng.integers(0, 3, (b, h)) * real).astype(np.float32),
        "terminated": terminated,
        "next_obs": rng.standard_normal((b, sizes.obs_dim), dtype=np.float32),
        "complete": (steps == h).astype(np.float32),
    }
