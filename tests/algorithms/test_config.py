"""Configs: every choice a key, mistakes refused with a suggestion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
from ray.tune.registry import register_env

from rllib_fmq import FMQConfig, MVPConfig, QCConfig, QGBSConfig
from rllib_fmq.rollout.callbacks import SuccessCallback

CUBE = "cube-single-play-singletask-task2-v0"
GRAPHS = {"cuda_graphs": True, "num_gpus_per_learner": 1}
SHARED_GPU = {"num_learners": 2, "num_gpus_per_learner": 0.5}


def valid(config: Any = None) -> Any:
    return (config or FMQConfig()).environment(CUBE).offline_data(dataset="data.npz")


def test_defaults_are_the_papers() -> None:
    config = FMQConfig()
    assert (config.eta, config.beta, config.lambda_sd, config.distillation) == (1, 0.3, 1, "esd")
    assert config.actor_hidden == config.critic_hidden == (512,) * 4
    assert (config.gamma, config.tau, config.lr) == (0.99, 0.005, 3e-4)
    assert (config.horizon_length, config.num_candidates, config.num_critics) == (5, 32, 2)
    assert (config.offline_updates, config.online_env_steps) == (1_000_000, 1_000_000)
    assert (config.learning_starts, config.utd_ratio, config.replay_capacity) == (5000, 1, 2000000)
    assert config.train_batch_size_per_learner == 256
    assert (config.diagonal_warmup_updates, config.interval_anneal_end) == (5_000, 50_000)
    assert config.evaluation_duration == 50


@pytest.mark.parametrize(
    ("config", "kind", "nfe"),
    [(FMQConfig(), "best_of_n", 32), (MVPConfig(), "best_of_n", 32), (QCConfig(), "euler", 320),
     (QGBSConfig(), "qgbs", 20)],
)  # fmt: skip
def test_each_method_evaluates_as_table_7_says(config: Any, kind: str, nfe: int) -> None:
    valid(config).validate()
    assert config.selector("evaluation").kind == kind
    assert config.selector("evaluation").nfe == nfe


def test_each_use_picks_its_own_selector() -> None:
    config = valid().training(
        target_selector="sample",
        collection_selector={"kind": "qgbs", "beam_width": 2, "eta": 0.1},
        num_candidates=16,
        target_num_candidates=4,
    )
    assert config.selector("target").kind == "sample"
    assert config.selector("collection").beam_width == 2
    assert config.selector("collection").eta == 0.1
    assert config.selector("evaluation").num_candidates == 16
    assert config.loss_settings().target_selector.num_candidates == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"etaa": 1.0}, "no key 'etaa'. Did you mean 'eta'"),
        ({"distilation": "esd"}, "'distillation'"),
        ({"distillation": "edd"}, "distillation='edd': choose one of"),
        ({"eta": -1.0}, "eta=-1.0: must be a number >= 0"),
        ({"eta": float("nan")}, "eta=nan"),
        ({"offline_updates": 1500.0}, "offline_updates=1500.0: must be a whole number"),
        ({"horizon_length": 2.5}, "horizon_length=2.5"),
        ({"gamma": "0.99"}, "gamma='0.99'"),
        ({"time_embedding_dim": 7}, "time_embedding_dim=7"),
        ({"lambda_sd": 0.0}, "never trained"),
        ({"num_epochs": 3}, "num_epochs=3"),
        ({"explore": False}, "explore=False"),
        ({"evaluation_seed": 1_999_999_999}, "final evaluations"),
        ({"beta": "high"}, "beta='high'"),
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"tau": 0.0}, "tau=0.0"),
        ({"horizon_length": 0}, "horizon_length=0"),
        ({"num_candidates": 0}, "num_candidates=0"),
        ({"snr": 0.0}, "snr=0.0"),
        ({"evaluation_selector": "bestofn"}, "selector kind 'bestofn'"),
        ({"evaluation_selector": {"kind": "qgbs", "beams": 3}}, "evaluation_selector"),
        ({"interval_anneal_end": 10}, "interval_anneal_end=10"),
        ({"offline_updates": 0}, "initial_checkpoint"),
        ({"offline_updates": 0, "online_env_steps": 0}, "nothing to train"),
        ({"dataset": None}, "dataset=None"),
        ({"initial_checkpoint": "somewhere"}, "offline_updates=0"),
        ({"num_critics": 1}, "num_critics=1"),
        ({"conditioning_axis": True}, "belongs to MVP"),
        ({"normalize_actions": False}, "normalize_actions"),
        ({"evaluation_duration_unit": "timesteps"}, "evaluation_duration_unit"),
        ({"evaluation_seed": 5}, "evaluation_seed=5"),
        ({"seed": 10**9}, "seed=1000000000"),
        ({"actor_hidden": ()}, "actor_hidden"),
        ({"env": "cube-singel-play-singletask-task2-v0"}, "Did you mean"),
        ({"env": None}, "no environment"),
        ({"utd_ratio": 0}, "utd_ratio=0"),
        ({"compile_updates": "always"}, "compile_updates='always': choose one of"),
        ({"compile_updates": None}, "compile_updates=None"),
        ({"learner_threads": 0}, "learner_threads=0"),
        ({"learner_threads": 1.5}, "learner_threads=1.5"),
        ({"learner_threads": True}, "learner_threads=True"),
        ({"cuda_graphs": "yes"}, "cuda_graphs='yes'"),
        ({"cuda_graphs": True}, "set .learners(num_gpus_per_learner=1)"),
        (GRAPHS | {"num_learners": 2}, "num_learners=2"),
        (GRAPHS | {"torch_skip_nan_gradients": False}, "torch_skip_nan_gradients=False"),
        (GRAPHS | {"grad_clip": 1.0, "grad_clip_by": "norm"}, "grad_clip_by='norm'"),
        (GRAPHS | {"log_gradients": True}, "log_gradients=True"),
        (SHARED_GPU, "num_gpus_per_learner=0.5 with num_learners=2"),
        (SHARED_GPU | {"placement_strategy": "SPREAD"}, "which NCCL refuses"),
    ],
)  # fmt: skip
def test_mistakes_are_refused(change: dict[str, Any], message: str) -> None:
    config = valid()
    config.update_from_dict(change)
    with pytest.raises(ValueError) as error:
        config.validate()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_keys_of_speed_are_accepted() -> None:
    for change in (
        {"compile_updates": True, "learner_threads": 4},
        {"compile_updates": False},
        GRAPHS | {"num_learners": 1, "grad_clip": 1.0, "grad_clip_by": "global_norm"},
    ):
        config = valid().training(**{k: v for k, v in change.items() if "num_" not in k})
        config.update_from_dict(change)
        config.validate()
        assert all(getattr(config, key) == value for key, value in change.items())


def test_shares_of_gpus_that_no_two_learners_share_are_accepted() -> None:
    for change in (
        SHARED_GPU | {"num_learners": 1},
        SHARED_GPU | {"num_gpus_per_learner": 0.6},
        SHARED_GPU | {"num_gpus_per_learner": 0},
        SHARED_GPU | {"placement_strategy": "STRICT_SPREAD"},
    ):
        config = valid()
        config.update_from_dict(change)
        config.validate()


def test_misspelt_argument_of_training_is_refused() -> None:
    with pytest.raises(TypeError, match="etaa"):
        FMQConfig().training(etaa=1.0)


def test_qc_knows_the_diagonal_only() -> None:
    with pytest.raises(ValueError, match="diagonal only"):
        valid(QCConfig()).training(lambda_sd=1.0).validate()
    with pytest.raises(ValueError, match="use 'euler'"):
        valid(QCConfig()).evaluation(evaluation_selector="qgbs").validate()


def test_connectors_that_evaluation_would_miss_are_refused() -> None:
    config = valid().env_runners(env_to_module_connector=lambda env, spaces, device: [])
    with pytest.raises(ValueError, match="environment wrapper"):
        config.validate()


def test_users_callbacks_keep_the_success_rate() -> None:
    from ray.rllib.callbacks.callbacks import RLlibCallback

    class Mine(RLlibCallback):
        pass

    config = valid().callbacks(Mine)
    config.validate()
    assert config.callbacks_class == [SuccessCallback, Mine]
    config.validate()
    assert config.callbacks_class == [SuccessCallback, Mine]


def test_unsupported_spaces_are_refused(
    ray_session: None, small_config: Callable[..., Any]
) -> None:
    config = small_config().environment("CartPole-v1")
    with pytest.raises(Exception, match="bounded Box is expected"):
        config.build_algo()


def test_success_fn_of_an_environment_that_was_registered_elsewhere() -> None:
    register_env("registered-elsewhere", lambda context: gym.make("Pendulum-v1"))
    config = FMQConfig().environment(
        "registered-elsewhere", env_config={"success_fn": "my_module:solved"}
    )
    with pytest.raises(ValueError, match="success_fn cannot be used for 'registered-elsewhere'"):
        config.validate()


def test_rewards_of_robomimic_are_shifted_alike_in_data_and_environment() -> None:
    config = FMQConfig().environment("can", env_config={"reward_shift": 0.0})
    with pytest.raises(ValueError, match=r"reward_shift=0.0: .* shifted by -1"):
        config.validate()


def test_arrays_as_a_dataset_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"got a dict: write arrays .*save_transitions"):
        FMQConfig().offline_data(dataset={"observations": []})  # type: ignore[arg-type]
