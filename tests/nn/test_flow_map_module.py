"""The RLModule: how it plans, what runners hold, and how its losses are put together."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn.flow_map_module import (
    ACTION_CHUNKS,
    PLANNING_SECONDS,
)

from .small_module import (
    ACTION_DIM,
    ACTION_SPACE,
    HORIZON,
    OBS_DIM,
    OBS_SPACE,
    SIZE,
    make_config,
    make_module,
)

# --- Planning ------------------------------------------------------------------------------


def test_forward_plans_chunks_in_the_unit_box() -> None:
    module = make_module(make_config())
    obs = torch.randn(5, OBS_DIM, dtype=torch.float64)
    for forward in (module.forward_exploration, module.forward_inference):
        out = forward({Columns.OBS: obs})
        assert out[ACTION_CHUNKS].shape == (5, HORIZON, ACTION_DIM)
        assert out[ACTION_CHUNKS].dtype == torch.float32
        assert out[ACTION_CHUNKS].abs().max() <= 1.0
        assert not out[ACTION_CHUNKS].requires_grad
        assert out[PLANNING_SECONDS] > 0.0


def test_nothing_is_planned_for_no_rows() -> None:
    module = make_module(make_config())
    module.seed_planning(0)
    before = module._planning_generator.get_state()
    assert module.forward_exploration({Columns.OBS: torch.zeros(0, OBS_DIM)}) == {}
    assert torch.equal(module._planning_generator.get_state(), before)


def test_collection_and_evaluation_have_their_own_selectors() -> None:
    config = make_config(collection_selector="sample", collection_num_candidates=7)
    config.evaluation(evaluation_selector={"kind": "qgbs", "beam_width": 2, "eta": 0.1})
    module = make_module(config)
    assert module.collection_selector == SelectorSettings(
        kind="sample", num_candidates=7, euler_steps=4
    )
    assert module.evaluation_selector == SelectorSettings(
        kind="qgbs", num_candidates=3, euler_steps=4, beam_width=2, eta=0.1
    )
    obs = torch.randn(5, OBS_DIM)
    for forward, selector in (
        (module.forward_exploration, module.collection_selector),
        (module.forward_inference, module.evaluation_selector),
    ):
        module.seed_planning(3)
        expected = module.plan(obs, selector).actions
        module.seed_planning(3)
        assert torch.equal(forward({Columns.OBS: obs})[ACTION_CHUNKS].flatten(1), expected)


@pytest.mark.parametrize(
    ("selector", "nfe"),
    [
        (SelectorSettings("sample"), 1),
        (SelectorSettings("best_of_n", num_candidates=5), 5),
        (SelectorSettings("euler", num_candidates=2, euler_steps=3), 6),
        (SelectorSettings("qgbs", beam_width=2, search_iters=2, branches=3), 14),
    ],
)
def test_plans_follow_the_seed_alone(selector: SelectorSettings, nfe: int) -> None:
    module = make_module(make_config())
    obs = torch.randn(2, OBS_DIM)
    module.seed_planning(11)
    first = module.plan(obs, selector)
    torch.manual_seed(99)
    second = module.plan(obs, selector)
    module.seed_planning(11)
    assert torch.equal(module.plan(obs, selector).actions, first.actions)
    assert not torch.equal(second.actions, first.actions)
    assert first.nfe == selector.nfe == nfe


def test_without_a_seed_of_its_own_planning_follows_torchs() -> None:
    obs = torch.randn(2, OBS_DIM)
    plans = []
    for seed in (1, 1, 2):
        module = make_module(make_config())
        torch.manual_seed(seed)
        plans.append(module.plan(obs, SelectorSettings("sample")).actions)
    assert torch.equal(plans[0], plans[1])
    assert not torch.equal(plans[0], plans[2])


@pytest.mark.parametrize("scoring", ["min", "mean"])
def test_candidates_are_scored_as_configured(scoring: str) -> None:
    module = make_module(make_config(scoring=scoring))
    obs = torch.randn(50, OBS_DIM)
    module.seed_planning(0)
    result = module.plan(obs, SelectorSettings("best_of_n", num_candidates=4))
    module.seed_planning(0)
    noise = torch.randn(200, SIZE, generator=module._planning_generator)
    zero = torch.zeros(200, 1)
    with torch.no_grad():
        tiled = obs.repeat_interleave(4, dim=0)
        candidates = noise + module.actor(tiled, noise, zero, zero + 1.0)
        q = module.critics(tiled, candidates.clamp(-1.0, 1.0))
    scores = q.min(dim=0).values if scoring == "min" else q.mean(dim=0)
    torch.testing.assert_close(result.q_values, scores.view(50, 4).max(dim=1).values)


def test_guided_search_works_in_the_forwards_of_rllib() -> None:
    # These run under no_grad, where QGBS needs dQ/da.
    config = make_config()
    config.evaluation(evaluation_selector={"kind": "qgbs", "eta": 0.5})
    module = make_module(config)
    plain = SelectorSettings("qgbs", eta=0.0)
    obs = torch.randn(20, OBS_DIM)
    module.seed_planning(0)
    guided = module.forward_inference({Columns.OBS: obs})[ACTION_CHUNKS].flatten(1)
    module.seed_planning(0)
    assert not torch.equal(guided, module.plan(obs, plain).actions)
    assert all(p.grad is None for p in module.parameters())


# --- What runners hold ---------------------------------------------------------------------


def test_runners_hold_actor_and_critics_only() -> None:
    config = make_config()
    runner, learner = make_module(config, inference_only=True), make_module(config)
    assert not hasattr(runner, "target_critics")
    assert not hasattr(runner, "reference_actor")
    runner.set_state(learner.get_state(inference_only=True))
    obs = torch.randn(3, OBS_DIM)
    for selector in (SelectorSettings("best_of_n"), SelectorSettings("qgbs")):
        runner.seed_planning(0)
        learner.seed_planning(0)
        assert torch.equal(runner.plan(obs, selector).actions, learner.plan(obs, selector).actions)


def test_targets_and_reference_start_as_copies_that_are_not_trained() -> None:
    spec = make_config().get_rl_module_spec(spaces={"default_policy": (OBS_SPACE, ACTION_SPACE)})
    module = spec.build()
    for copy, original in (
        (module.target_critics, module.critics),
        (module.reference_actor, module.actor),
    ):
        for a, b in zip(copy.parameters(), original.parameters(), strict=True):
            assert torch.equal(a, b)
            assert a.data_ptr() != b.data_ptr()
            assert not a.requires_grad and b.requires_grad


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (gym.spaces.Box(0, 1, (2, 2)), ACTION_SPACE, "1-D Box"),
        (gym.spaces.Discrete(3), ACTION_SPACE, "1-D Box"),
        (OBS_SPACE, gym.spaces.Discrete(3), "bounded Box"),
        (OBS_SPACE, gym.spaces.Box(-1.0, np.inf, (2,)), "unbounded"),
    ],
)
def test_other_spaces_are_refused(
    observation_space: gym.Space[Any], action_space: gym.Space[Any], message: str
) -> None:
    spec = make_config().get_rl_module_spec(
        spaces={"default_policy": (observation_space, action_space)}
    )
    with pytest.raises(ValueError, match=message):
        spec.build()
