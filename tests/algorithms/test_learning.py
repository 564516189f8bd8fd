"""Does FMQ do what Eq. 12 says: move by eta_eff, towards more value?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rllib_fmq import FMQConfig
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.rollout.evaluation import evaluate_episodes, make_single_env, summarise
from tests.problems import TWO_MODES

EPISODES = range(2_000_000_000, 2_000_000_400)


def mean_return(algo: Any, kind: str) -> float:
    """Return of the current policy over fixed contexts, without search where kind="sample"."""
    algo.env_runner_group.sync_weights(
        from_worker_or_learner_group=algo.learner_group, inference_only=True
    )
    outcomes = evaluate_episodes(
        algo.get_module(),
        make_single_env(algo.config),
        EPISODES,
        SelectorSettings(kind=kind, num_candidates=8),
    )
    return summarise(outcomes)["episode_return_mean"]


@pytest.mark.slow
def test_fmq_moves_by_the_radius_and_gains_value(ray_session: None, two_modes: Path) -> None:
    config = (
        FMQConfig()
        .environment(TWO_MODES)
        .offline_data(dataset=str(two_modes))
        .env_runners(num_envs_per_env_runner=10, rollout_fragment_length=10)
        .training(
            eta=0.3,
            beta=0.3,
            horizon_length=1,
            actor_hidden=(64, 64),
            critic_hidden=(64, 64),
            num_candidates=4,
            diagonal_warmup_updates=200,
            interval_anneal_end=1_000,
            lr=1e-3,
        )
        .phases(
            offline_updates=1_500,
            online_env_steps=2_000,
            updates_per_iteration=500,
            learning_starts=100,
        )
        .debugging(seed=0)
    )
    algo = config.build_algo()
    try:
        while algo.phase == "offline":
            algo.train()
        before = {kind: mean_return(algo, kind) for kind in ("sample", "best_of_n")}
        while algo.phase == "online":
            result = algo.train()
        after = {kind: mean_return(algo, kind) for kind in ("sample", "best_of_n")}
    finally:
        algo.stop()

    learner = result["learners"]["default_policy"]
    # Eq. 13 with both critics near agreement relative to the batch: about eta / (1 + beta).
    assert 0.2 < learner["eta_eff"] < 0.3
    assert learner["displacement"] == pytest.approx(learner["eta_eff"], rel=0.1)
    # Offline, half the samples come from the worse mode: -(0.45^2 + 1.35^2) / 2 = -1.01.
    assert before["sample"] == pytest.approx(-1.01, abs=0.15)
    # Each sample moves by about 0.23 towards the best action, whose distance was 0.45 or 1.35.
    assert after["sample"] > before["sample"] + 0.2
    assert after["best_of_n"] > before["best_of_n"] + 0.05
