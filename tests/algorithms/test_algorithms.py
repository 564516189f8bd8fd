"""Each method, offline and online, with local and remote runners and learners."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.tune.registry import get_trainable_cls

from rllib_fmq import ALGORITHMS
from rllib_fmq.learner.initial_checkpoint import read_initial_state
from tests.algorithms.conftest import run_to_end

ONLINE_LOSS = {
    "FMQ": "q_guidance_loss",
    "QGBS": "q_guidance_loss",
    "MVP": "imitation_q_mean",
    "QC": "diagonal_loss",
}


def weights(algo: Any) -> dict[str, np.ndarray]:
    state = algo.learner_group.get_state(components="learner/rl_module")["learner"]
    return state["rl_module"]["default_policy"]


@pytest.mark.parametrize(
    ("name", "runners", "learners"),
    [
        *((name, 0, 0) for name in ALGORITHMS),
        pytest.param("FMQ", 2, 1, marks=pytest.mark.slow),
        pytest.param("QC", 2, 1, marks=pytest.mark.slow),
        pytest.param("QGBS", 0, 2, marks=pytest.mark.slow),
        pytest.param("MVP", 0, 2, marks=pytest.mark.slow),
    ],
)
def test_both_phases_run(
    ray_session: None,
    small_config: Callable[..., Any],
    name: str,
    runners: int,
    learners: int,
) -> None:
    config = small_config(name).env_runners(num_env_runners=runners).learners(num_learners=learners)
    results = run_to_end(config.build_algo())

    assert [r["phase"] for r in results] == ["offline", "online", "online"]
    last = results[-1]
    assert last["num_online_env_steps"] >= 40
    # One update a step from step 10 on (learning_starts).
    assert last["num_updates"] == 20 + last["num_online_env_steps"] - 10
    assert last["env_runners"]["num_env_steps_sampled_lifetime"] == last["num_online_env_steps"]
    learner = last["learners"]["default_policy"]
    assert math.isfinite(learner[ONLINE_LOSS[name]])
    assert learner["replay_size"] == 4_000 + last["num_online_env_steps"]
    assert last["evaluated_this_iteration"]
    evaluation = last["evaluation"]["env_runners"]
    assert evaluation["num_episodes"] == 3
    assert evaluation["nfe"] == {"QGBS": 20, "QC": 20}.get(name, 2)


def test_names_are_registered() -> None:
    for name, algorithm in ALGORITHMS.items():
        assert get_trainable_cls(name) is algorithm


def test_offline_only_and_online_only_from_another_method(
    ray_session: None, small_config: Callable[..., Any], tmp_path: Path
) -> None:
    offline = small_config("MVP", online_env_steps=0).build_algo()
    results = [offline.train()]
    assert results[-1]["done"] and results[-1]["phase"] == "offline"
    checkpoint = offline.save_to_path(str(tmp_path / "offline"))
    expected = weights(offline)
    offline.stop()

    for name in ("FMQ", "MVP"):
        config = small_config(name, offline_updates=0, initial_checkpoint=str(checkpoint))
        online = config.build_algo()
        start = weights(online)
        for key, array in expected.items():
            np.testing.assert_array_equal(start[key], array)
        assert online.num_updates == 20
        assert read_initial_state(checkpoint).num_updates == 20
        results = run_to_end(online)
        assert {r["phase"] for r in results} == {"online"}


def test_a_policy_without_jumps_starts_no_jumping_method(
    ray_session: None, small_config: Callable[..., Any], tmp_path: Path
) -> None:
    offline = small_config("QC", online_env_steps=0).build_algo()
    offline.train()
    checkpoint = offline.save_to_path(str(tmp_path / "qc"))
    offline.stop()
    with pytest.raises(ValueError, match="diagonal only"):
        small_config("FMQ", offline_updates=0, initial_checkpoint=str(checkpoint)).build_algo()


def test_one_critic_has_no_disagreement(
    ray_session: None, small_config: Callable[..., Any]
) -> None:
    config = small_config("FMQ").training(num_critics=1, beta=0.0, eta=0.5)
    learner = run_to_end(config.build_algo())[-1]["learners"]["default_policy"]
    assert learner["eta_eff"] == pytest.approx(0.5) and learner["disagreement"] == 0.0


def test_learning_rate_schedules_count_updates(
    ray_session: None, small_config: Callable[..., Any]
) -> None:
    config = small_config("FMQ").training(lr=[[0, 1e-3], [20, 1e-4]])
    result = run_to_end(config.build_algo())[-1]
    rate = result["learners"]["default_policy"]["default_optimizer_learning_rate"]
    assert rate == pytest.approx(1e-4)


def test_chunks_longer_than_every_episode_are_refused(
    ray_session: None, small_config: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match="no window is complete"):
        small_config("FMQ").training(horizon_length=2).build_algo()


def test_initial_checkpoint_of_other_sizes_is_refused(
    ray_session: None, small_config: Callable[..., Any], tmp_path: Path
) -> None:
    offline = small_config("FMQ", online_env_steps=0).build_algo()
    offline.train()
    checkpoint = offline.save_to_path(str(tmp_path / "offline"))
    offline.stop()
    config = small_config("FMQ", offline_updates=0, initial_checkpoint=str(checkpoint))
    config.training(actor_hidden=(8,))
    with pytest.raises(ValueError, match="networks of other sizes"):
        config.build_algo()
    broken = tmp_path / "offline/learner_group/learner/state.pkl"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"incomplete: .*state\.pkl has 100 bytes"):
        read_initial_state(checkpoint)


@pytest.mark.parametrize("learners", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_restored_run_goes_on_where_it_was(
    ray_session: None, small_config: Callable[..., Any], tmp_path: Path, learners: int
) -> None:
    config = small_config("FMQ", online_env_steps=80).learners(num_learners=learners)
    algo = config.build_algo()
    for _ in range(2):
        algo.train()
    path = algo.save_to_path(str(tmp_path / "checkpoint"))
    saved, steps = weights(algo), algo.num_online_env_steps
    algo.stop()

    again = Algorithm.from_checkpoint(path)
    for key, array in saved.items():
        np.testing.assert_array_equal(weights(again)[key], array)
    assert again.phase == "online" and again.num_online_env_steps == steps
    sizes = [
        result.get()
        for result in again.learner_group.foreach_learner(lambda learner: len(learner.replay))
    ]
    assert sizes == [4_000 + steps] * max(1, learners)
    results = run_to_end(again)
    assert results[-1]["num_online_env_steps"] >= 80
    assert results[-1]["training_iteration"] > 2


def test_same_seed_same_weights(ray_session: None, small_config: Callable[..., Any]) -> None:
    finals = []
    for _ in range(2):
        algo = small_config("FMQ").build_algo()
        while not algo.train()["done"]:
            pass
        finals.append(weights(algo))
        algo.stop()
    for key, array in finals[0].items():
        np.testing.assert_array_equal(array, finals[1][key])


def test_updates_owed_follow_the_ratio(ray_session: None, small_config: Callable[..., Any]) -> None:
    config = small_config("FMQ", utd_ratio=0.5, online_env_steps=60)
    results = run_to_end(config.build_algo())
    last = results[-1]
    assert last["num_updates"] - 20 == (last["num_online_env_steps"] - 10) // 2


def test_reference_is_the_offline_policy(
    ray_session: None, small_config: Callable[..., Any]
) -> None:
    algo = small_config("FMQ").build_algo()
    algo.train()
    offline = {k: v for k, v in weights(algo).items() if k.startswith("actor.")}
    algo.train()
    after = weights(algo)
    algo.stop()
    moved = 0.0
    for key, array in offline.items():
        np.testing.assert_array_equal(after[key.replace("actor.", "reference_actor.", 1)], array)
        moved += float(np.abs(after[key] - array).max())
    assert moved > 0.0


def test_optimizer_reset_is_a_choice(ray_session: None, small_config: Callable[..., Any]) -> None:
    steps = {}
    for reset in (False, True):
        config = small_config("FMQ").training(reset_optimizer_online=reset)
        algo = config.build_algo()
        algo.train()
        algo.train()
        optimizer = algo.learner_group._learner.get_optimizer("default_policy")
        (steps[reset],) = {int(torch.as_tensor(s["step"])) for s in optimizer.state.values()}
        updates = algo.num_updates
        algo.stop()
        assert steps[reset] == (updates - 20 if reset else updates)
