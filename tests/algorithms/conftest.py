"""Small configs of the four methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_fmq import ALGORITHMS
from tests.problems import TWO_MODES


@pytest.fixture()
def small_config(two_modes: Path) -> Callable[..., Any]:
    """``small_config("FMQ")``: a config on the two-mode problem that trains in seconds."""

    def make(name: str = "FMQ", **phases: Any) -> Any:
        config = (
            ALGORITHMS[name]
            .get_default_config()
            .environment(TWO_MODES)
            .offline_data(dataset=str(two_modes))
            .env_runners(num_envs_per_env_runner=2, rollout_fragment_length=5)
            .training(
                horizon_length=1,
                actor_hidden=(16,),
                critic_hidden=(16,),
                num_candidates=2,
                diagonal_warmup_updates=2,
                interval_anneal_end=10,
                train_batch_size_per_learner=16,
            )
            .evaluation(evaluation_interval=1, evaluation_duration=3)
            .debugging(seed=0)
        )
        return config.phases(
            **{
                "offline_updates": 20,
                "online_env_steps": 40,
                "updates_per_iteration": 20,
                "learning_starts": 10,
            }
            | phases
        )

    return make


def run_to_end(algo: Any) -> list[dict[str, Any]]:
    """Train until the algorithm says that it is done; stop it."""
    results = []
    try:
        while not results or not results[-1]["done"]:
            results.append(algo.train())
            assert len(results) < 50, "the phases do not end"
    finally:
        algo.stop()
    return results
