"""Small configs for the scripted environments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq import FMQConfig
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.data.formats.transitions_npz import save_transitions

from .environments import OBS_DIM, SCRIPTED, register_scripted

HORIZON = 3

ConfigFactory = Callable[..., FlowMapConfig]


@pytest.fixture(scope="session")
def scripted_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty episodes of five steps; what they hold does not matter here."""
    rng = np.random.default_rng(0)
    states = rng.standard_normal((20, 6, OBS_DIM))
    obs, following = states[:, :-1].reshape(100, OBS_DIM), states[:, 1:].reshape(100, OBS_DIM)
    return save_transitions(
        tmp_path_factory.mktemp("scripted") / "scripted.npz",
        observations=obs,
        actions=rng.uniform(0.0, 0.3, (100, 2)),  # within the bounds of all environments
        rewards=rng.standard_normal(100),
        next_observations=following,
        terminated=np.arange(100) % 5 == 4,
        truncated=np.zeros(100, bool),
    )


@pytest.fixture(scope="session")
def make_config(scripted_data: Path) -> ConfigFactory:
    """Factory of small configs, not yet validated."""
    register_scripted()

    def make(env: str = SCRIPTED, num_envs: int = 1, **training: Any) -> FlowMapConfig:
        small: dict[str, Any] = {
            "horizon_length": HORIZON,
            "actor_hidden": (16,),
            "critic_hidden": (16,),
            "num_candidates": 2,
            "collection_selector": "sample",
            "train_batch_size_per_learner": 16,
        }
        return (
            FMQConfig()
            .environment(env)
            .offline_data(dataset=str(scripted_data))
            .env_runners(num_envs_per_env_runner=num_envs, rollout_fragment_length=5)
            .training(**(small | training))
            .phases(
                offline_updates=4,
                online_env_steps=60,
                updates_per_iteration=30,
                learning_starts=10,
            )
            .debugging(seed=3, log_level="ERROR")
        )

    return make
