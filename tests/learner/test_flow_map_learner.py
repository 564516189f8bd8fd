"""The Learner by itself, without an algorithm around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import ray
import torch
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from torch import Tensor, nn

from rllib_fmq import FMQConfig, MVPConfig, QCConfig, QGBSConfig
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.learner import FlowMapLearner

from .conftest import HIGH, LOW, OBS_DIM, SPACES

Make = Callable[..., FlowMapLearner]


def parameters(learner: FlowMapLearner) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in learner.flow_module.state_dict().items()}


def part(learner: FlowMapLearner, name: str) -> dict[str, Tensor]:
    module: nn.Module = getattr(learner.flow_module, name)
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def metrics(result: dict[str, Any]) -> dict[str, float]:
    values = {name: float(stats.peek()) for name, stats in result["default_policy"].items()}
    # RLlib keeps the name of whatever was logged in an earlier call, without a value.
    return {name: value for name, value in values.items() if not math.isnan(value)}


def fragments(seed: int, count: int = 3, length: int = 5) -> list[SingleAgentEpisode]:
    """Ended episodes as env-runners return them: actions in [-1, 1]."""
    rng = np.random.default_rng(seed)
    return [
        SingleAgentEpisode(
            observations=list(rng.standard_normal((length + 1, OBS_DIM)).astype(np.float32)),
            actions=list(rng.uniform(-1, 1, (length, 2)).astype(np.float32)),
            rewards=list(rng.standard_normal(length)),
            terminated=k % 2 == 0,
            truncated=k % 2 == 1,
            observation_space=SPACES[0],
            action_space=SPACES[1],
            len_lookback_buffer=0,
        ).to_numpy()
        for k in range(count)
    ]


# --- update() ------------------------------------------------------------------------------


def test_update_runs_as_many_updates_as_asked(make_learner: Make) -> None:
    learner = make_learner()
    before, number = parameters(learner), learner._weights_seq_no
    learner.update(num_updates=5)
    assert learner.num_updates == 5
    # Once a call: env-runners take weights only with a new number.
    assert learner._weights_seq_no == number + 1
    assert not equal(before, parameters(learner))
    learner.update(num_updates=2)
    assert (learner.num_updates, learner._weights_seq_no) == (7, number + 2)


def test_updates_in_one_call_equal_those_in_many(make_learner: Make) -> None:
    first, second = make_learner(), make_learner()
    first.update(num_updates=6)
    for _ in range(3):
        second.update(num_updates=2)
    assert equal(parameters(first), parameters(second))


def test_metrics_are_means_over_the_call(make_learner: Make) -> None:
    # Self-distillation starts at update 3 of 6: its mean is over the updates that had it.
    whole, single = make_learner(), make_learner()
    together = metrics(whole.update(num_updates=6))
    alone = [metrics(single.update(num_updates=1)) for _ in range(6)]
    for name in ("critic_loss", "diagonal_loss", "q_mean", "q_target_mean", "distillation_loss"):
        values = [m[name] for m in alone if name in m]
        assert together[name] == pytest.approx(np.mean(values), rel=1e-5)
    assert ["distillation_loss" in m for m in alone] == [False] * 3 + [True] * 3
    assert together["interval_factor"] == 1.0
    assert together["replay_size"] == len(whole.replay)


def test_a_call_without_updates_only_stores(make_learner: Make) -> None:
    learner = make_learner()
    before, rows = parameters(learner), len(learner.replay)
    learner.update(num_updates=0, fragments=[fragments(0)])
    assert (learner.num_updates, len(learner.replay)) == (0, rows + 15)
    assert equal(before, parameters(learner))


def test_fragments_may_come_by_reference(make_learner: Make, ray_session: None) -> None:
    direct, referred = make_learner(), make_learner()
    direct.update(num_updates=2, fragments=[fragments(0), fragments(1)])
    referred.update(num_updates=2, fragments=[ray.put(fragments(0)), ray.put(fragments(1))])
    assert equal(parameters(direct), parameters(referred))
    assert torch.equal(direct.replay.obs, referred.replay.obs)


def test_stored_rows_are_the_fragments(make_learner: Make) -> None:
    learner = make_learner()
    learner.store(fragments(4, count=2, length=3))
    (stored,) = learner.replay.online_parts(0, 100)
    episodes = fragments(4, count=2, length=3)
    for k, episode in enumerate(episodes):
        rows = slice(3 * k, 3 * k + 3)
        np.testing.assert_array_equal(stored.obs[rows], episode.get_observations()[:-1])
        np.testing.assert_array_equal(stored.actions[rows], episode.get_actions())
        np.testing.assert_allclose(stored.rewards[rows], episode.get_rewards(), rtol=1e-6)
        np.testing.assert_array_equal(stored.end_obs[k], episode.get_observations()[-1])
    assert stored.terminated.tolist() == [False, False, True, False, False, False]


def test_an_infinite_loss_stops_training(make_learner: Make) -> None:
    learner = make_learner()
    learner.replay.rewards[:] = float("inf")
    with pytest.raises(FloatingPointError, match=r"critic_loss is not finite at update 2"):
        learner.update(num_updates=2)


@pytest.mark.parametrize("config_class", [FMQConfig, QGBSConfig, MVPConfig, QCConfig])
def test_every_method_trains_in_both_phases(
    make_learner: Make, config_class: type[FlowMapConfig]
) -> None:
    learner = make_learner(config_class)
    offline = metrics(learner.update(num_updates=4))
    assert {"critic_loss", "diagonal_loss"} <= offline.keys()
    assert ("distillation_loss" in offline) == (config_class is not QCConfig)
    learner.begin_online()
    before = part(learner, "actor")
    online = metrics(learner.update(num_updates=4, fragments=[fragments(0)]))
    assert not equal(before, part(learner, "actor"))
    guided = config_class in (FMQConfig, QGBSConfig)
    assert ("q_guidance_loss" in online) == guided
    assert ("diagonal_loss" in online) == (not guided)
    assert ("imitation_q_mean" in online) == (config_class is MVPConfig)


@pytest.mark.parametrize("distillation", ["esd", "lsd", "psd"])
@pytest.mark.parametrize("student", ["jump", "composition"])
def test_every_distillation_trains(make_learner: Make, distillation: str, student: str) -> None:
    learner = make_learner(distillation=distillation, distillation_student=student)
    result = metrics(learner.update(num_updates=5))
    assert result["distillation_loss"] > 0.0


def test_the_conditioning_axis_starts_when_it_should(make_learner: Make) -> None:
    learner = make_learner(
        MVPConfig, conditioning_axis=True, conditioning_start=3, conditioning_zero_prob=0.0
    )

    def condition_gradient() -> float:
        learner.update(num_updates=1)
        weight = learner.flow_module.actor.mlp[0].weight
        # The last columns are a_c: zero input until then, hence no gradient.
        return float(weight.grad[:, -6:].abs().sum())

    assert [condition_gradient() > 0.0 for _ in range(5)] == [False] * 3 + [True] * 2


# --- Target critics ------------------------------------------------------------------------


def test_one_polyak_step_by_hand(make_learner: Make) -> None:
    learner = make_learner(tau=0.1)
    learner.update(num_updates=3)
    old = part(learner, "target_critics")
    learner.update(num_updates=1)
    new = part(learner, "critics")
    for name, value in part(learner, "target_critics").items():
        torch.testing.assert_close(value, 0.9 * old[name] + 0.1 * new[name], rtol=1e-6, atol=1e-8)


def test_targets_move_once_a_gradient_step(make_learner: Make) -> None:
    learner = make_learner(tau=0.1, lr=1e-30)
    with torch.no_grad():
        for parameter in learner.flow_module.target_critics.parameters():
            parameter.add_(1.0)
    learner.update(num_updates=7)
    critics = part(learner, "critics")
    for name, value in part(learner, "target_critics").items():
        torch.testing.assert_close(value - critics[name], torch.full_like(value, 0.9**7))


# --- The switch ----------------------------------------------------------------------------


def test_the_reference_is_the_actor_at_the_switch(make_learner: Make) -> None:
    learner = make_learner()
    initial = part(learner, "reference_actor")
    learner.update(num_updates=4)
    assert equal(part(learner, "reference_actor"), initial)
    actor = part(learner, "actor")
    learner.begin_online()
    assert equal(part(learner, "reference_actor"), actor)
    learner.update(num_updates=4)
    assert not equal(part(learner, "actor"), actor)
    assert equal(part(learner, "reference_actor"), actor)
    learner.begin_online()
    assert equal(part(learner, "reference_actor"), actor)


@pytest.mark.parametrize("reset", [False, True])
def test_adams_moments_at_the_switch(make_learner: Make, reset: bool) -> None:
    learner = make_learner(reset_optimizer_online=reset)
    learner.update(num_updates=4)
    (optimizer,) = learner._named_optimizers.values()

    def steps() -> set[float]:
        return {float(state["step"]) for state in optimizer.state.values()}

    assert steps() == {4.0}
    learner.begin_online()
    learner.update(num_updates=1)
    assert steps() == ({1.0} if reset else {5.0})


def test_displacement_starts_at_zero_and_grows(make_learner: Make) -> None:
    learner = make_learner(lr=1e-3)
    learner.update(num_updates=4)
    learner.begin_online()
    first = metrics(learner.update(num_updates=1))
    assert first["displacement"] == 0.0
    # With actor and reference equal, the loss is the mean of eta_eff^2 over valid numbers.
    assert 0.0 < first["eta_eff"] <= 1.0
    for _ in range(10):
        last = metrics(learner.update(num_updates=20))
    assert last["displacement"] > 0.1


# --- Seeds and state -----------------------------------------------------------------------


def test_a_seed_decides_everything(make_learner: Make) -> None:
    def train(seed: int) -> dict[str, Tensor]:
        learner = make_learner(seed=seed)
        learner.update(num_updates=5)
        learner.begin_online()
        learner.update(num_updates=5, fragments=[fragments(0)])
        return parameters(learner)

    first = train(0)
    torch.manual_seed(123)
    np.random.seed(123)
    assert equal(first, train(0))
    assert not equal(first, train(1))


def test_weights_alone_can_be_asked_for(make_learner: Make) -> None:
    # What is sent to env-runners after every round must not contain the replay.
    state = make_learner().get_state(components="rl_module", inference_only=True)
    assert set(state) == {"rl_module", "weights_seq_no", "should_module_be_updated"}
    names = set(state["rl_module"]["default_policy"])
    assert any(name.startswith("critics") for name in names)
    assert not any(name.startswith(("target_critics", "reference_actor")) for name in names)


# --- The offline data ----------------------------------------------------------------------


def test_offline_actions_are_scaled_to_the_unit_box(make_learner: Make, walk: Path) -> None:
    learner = make_learner()
    with np.load(walk) as data:
        num = len(data["actions"])
        expected = 2.0 * (data["actions"] - LOW) / (HIGH - LOW) - 1.0
        observations = data["observations"]
    np.testing.assert_allclose(learner.replay.actions[:num], expected, atol=1e-6)
    np.testing.assert_array_equal(learner.replay.obs[:num], observations)
    assert learner.replay.actions.abs().max() > 0.9


def test_action_boxes_of_any_shape_are_flattened(make_config: Callable[..., Any]) -> None:
    config = make_config()
    action_space = gym.spaces.Box(LOW.reshape(2, 1), HIGH.reshape(2, 1), dtype=np.float32)
    spec = config.get_multi_rl_module_spec(spaces={"default_policy": (SPACES[0], action_space)})
    learner = config.get_default_learner_class()(config=config, module_spec=spec)
    learner.build()
    learner.update(num_updates=1)
    assert learner.replay.actions.shape[1] == 2


def test_the_replay_has_room_for_the_online_phase(make_learner: Make) -> None:
    learner = make_learner()
    assert learner.replay.capacity >= learner.replay.num_offline + 100


def test_the_replay_holds_at_least_the_dataset(make_learner: Make) -> None:
    learner = make_learner(replay_capacity=100)
    assert learner.replay.capacity == learner.replay.num_offline > 100
    learner.store(fragments(0))
    assert (len(learner.replay), learner.replay.num_online) == (learner.replay.capacity, 15)
