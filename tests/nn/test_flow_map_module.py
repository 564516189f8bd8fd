"""The RLModule: how it plans, what runners hold, and how its losses are put together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rllib_fmq import FMQConfig, MVPConfig, QCConfig, flow
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn.flow_map_module import (
    ACTION_CHUNKS,
    CONTEXT,
    LOSSES,
    METRICS,
    PLANNING_SECONDS,
    WINDOWS,
    FlowMapModule,
)
from rllib_fmq.nn.objectives import UpdateContext, WindowBatch

OBS_DIM, ACTION_DIM, HORIZON, BATCH = 4, 2, 3, 6
SIZE = HORIZON * ACTION_DIM
OBS_SPACE = gym.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float64)
ACTION_SPACE = gym.spaces.Box(-2.0, 3.0, (ACTION_DIM,), np.float32)
GAMMA = 0.9


def make_config(config_class: type[FlowMapConfig] = FMQConfig, **training: Any) -> FlowMapConfig:
    small: dict[str, Any] = {
        "horizon_length": HORIZON,
        "actor_hidden": (16, 16),
        "critic_hidden": (16, 16),
        "num_candidates": 3,
        "euler_steps": 4,
        "gamma": GAMMA,
    }
    return config_class().training(**(small | training))


def make_module(config: FlowMapConfig, inference_only: bool = False) -> FlowMapModule:
    spec = config.get_rl_module_spec(
        spaces={"default_policy": (OBS_SPACE, ACTION_SPACE)}, inference_only=inference_only
    )
    torch.manual_seed(0)
    module: FlowMapModule = spec.build()
    if not inference_only:
        # As after some training: nothing equals anything by construction.
        with torch.no_grad():
            for part in (module.target_critics, module.reference_actor):
                for parameter in part.parameters():
                    parameter.add_(0.1 * torch.randn(parameter.shape))
    return module


def make_context(config: FlowMapConfig, **changes: Any) -> UpdateContext:
    context = UpdateContext(
        settings=config.loss_settings(),
        online=False,
        interval_factor=1.0,
        condition=False,
        generator=torch.Generator().manual_seed(5),
        global_mean=lambda value: value,
    )
    return replace(context, **changes)


def make_windows() -> WindowBatch:
    noise = torch.Generator().manual_seed(9)
    valid = torch.ones(BATCH, HORIZON)
    valid[0, 1:] = 0.0  # one window is cut short by its episode's end
    terminated = torch.zeros(BATCH, HORIZON, dtype=torch.bool)
    terminated[0, 0] = terminated[1, 2] = terminated[2, 1] = True
    mask = valid.repeat_interleave(ACTION_DIM, dim=1)
    return WindowBatch(
        obs=torch.randn(BATCH, OBS_DIM, generator=noise),
        actions=(2.0 * torch.rand(BATCH, SIZE, generator=noise) - 1.0) * mask,
        valid=mask,
        rewards=torch.randn(BATCH, HORIZON, generator=noise) * valid,
        terminated=terminated,
        next_obs=torch.randn(BATCH, OBS_DIM, generator=noise),
        complete=valid[:, -1],
    )


def compute(
    module: FlowMapModule, context: UpdateContext
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    out = module.forward_train({WINDOWS: make_windows(), CONTEXT: context})
    return out[LOSSES], out[METRICS]


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


# --- Losses --------------------------------------------------------------------------------

PHASES = [
    (FMQConfig, {}, False),
    (FMQConfig, {"distillation": "lsd"}, False),
    (FMQConfig, {"distillation": "psd"}, False),
    (FMQConfig, {}, True),
    (FMQConfig, {"guidance_critic": "mean", "target_selector": "qgbs"}, True),
    (FMQConfig, {"online_diagonal_weight": 0.5, "online_distillation_weight": 0.5}, True),
    (MVPConfig, {"conditioning_axis": True}, False),
    (MVPConfig, {}, True),
    (QCConfig, {}, False),
    (QCConfig, {}, True),
]


@pytest.mark.parametrize(("config_class", "training", "online"), PHASES)
def test_actor_and_critics_are_trained_by_their_own_losses_only(
    config_class: type[FlowMapConfig], training: dict[str, Any], online: bool
) -> None:
    config = make_config(config_class, **training)
    module = make_module(config)
    context = make_context(config, online=online, condition=config.conditioning_axis)
    losses, metrics = compute(module, context)
    assert all(value.ndim == 0 and not value.requires_grad for value in metrics.values())
    # Nothing is left behind on the parameters by dQ/da.
    assert all(p.grad is None for p in module.parameters())

    critic_loss = losses.pop("critic_loss")
    actor_loss = torch.stack(list(losses.values())).sum()
    frozen = [*module.target_critics.parameters(), *module.reference_actor.parameters()]
    for loss, trained, other in (
        (critic_loss, module.critics, module.actor),
        (actor_loss, module.actor, module.critics),
    ):
        module.zero_grad()
        loss.backward(retain_graph=True)
        assert all(p.grad is not None for p in trained.parameters())
        assert sum(float(p.grad.abs().sum()) for p in trained.parameters()) > 0.0
        assert all(p.grad is None for p in [*other.parameters(), *frozen])


def test_the_critic_loss_by_hand() -> None:
    config = make_config(target_selector="sample", target_aggregation="min")
    module, windows = make_module(config), make_windows()
    losses, metrics = compute(module, make_context(config))

    noise = torch.randn(BATCH, SIZE, generator=torch.Generator().manual_seed(5))
    zero = torch.zeros(BATCH, 1)
    with torch.no_grad():
        action = noise + module.actor(windows.next_obs, noise, zero, zero + 1.0)
        next_q = module.target_critics(windows.next_obs, action.clamp(-1.0, 1.0)).min(0).values
        q = module.critics(windows.obs, windows.actions)
    total = 0.0
    for b in range(BATCH):
        # One window is cut short, one ends its episode, one has an end in its middle.
        y, alive = 0.0, 1.0
        for step in range(HORIZON):
            y += alive * GAMMA**step * float(windows.rewards[b, step])
            alive *= 0.0 if windows.terminated[b, step] else 1.0
        y += alive * GAMMA**HORIZON * float(next_q[b])
        if b > 0:
            total += float((q[0, b] - y) ** 2 + (q[1, b] - y) ** 2)
    assert losses["critic_loss"].item() == pytest.approx(total / BATCH, rel=1e-5)
    assert metrics["q_mean"].item() == pytest.approx(float(q.mean()), rel=1e-5)


@pytest.mark.parametrize("target_scoring", ["mean", "min"])
def test_the_targets_candidates_are_scored_by_the_online_critics(target_scoring: str) -> None:
    config = make_config(
        target_selector="best_of_n", target_num_candidates=8, target_scoring=target_scoring
    )
    module, windows = make_module(config), make_windows()
    losses, _ = compute(module, make_context(config))
    noise = torch.randn(BATCH * 8, SIZE, generator=torch.Generator().manual_seed(5))
    tiled, zero = windows.next_obs.repeat_interleave(8, dim=0), torch.zeros(BATCH * 8, 1)
    with torch.no_grad():
        candidates = (noise + module.actor(tiled, noise, zero, zero + 1.0)).clamp(-1.0, 1.0)
        q = module.critics(tiled, candidates)
        score = q.mean(0) if target_scoring == "mean" else q.min(0).values
        best = score.view(BATCH, 8).argmax(dim=1) + 8 * torch.arange(BATCH)
        next_q = module.target_critics(windows.next_obs, candidates[best]).min(0).values
        alive = 1.0 - windows.terminated.float().amax(dim=1)
        before = torch.cumprod(1.0 - windows.terminated.float(), 1).roll(1, 1)
        before[:, 0] = 1.0
        powers = GAMMA ** torch.arange(HORIZON)
        y = (windows.rewards * before * powers).sum(1) + alive * GAMMA**HORIZON * next_q
        error = (module.critics(windows.obs, windows.actions) - y).square() * windows.complete
    assert losses["critic_loss"].item() == pytest.approx(float(error.sum() / BATCH), rel=1e-5)


def test_the_guidance_loss_by_hand() -> None:
    eta, beta = 0.7, 0.4
    config = make_config(eta=eta, beta=beta, target_selector="sample")
    module, windows = make_module(config), make_windows()
    losses, metrics = compute(module, make_context(config, online=True))

    noise_source = torch.Generator().manual_seed(5)
    torch.randn(BATCH, SIZE, generator=noise_source)  # the critic target's
    r = torch.rand(BATCH, 1, generator=noise_source)
    noise = torch.randn(BATCH, SIZE, generator=noise_source)
    a_r = (1.0 - r) * noise + r * windows.actions
    u_off = module.reference_actor(windows.obs, a_r, r, torch.ones_like(r)).detach()
    a_1 = (a_r + (1.0 - r) * u_off).clamp(-1.0, 1.0).requires_grad_()
    q = module.critics(windows.obs, a_1)
    (g,) = torch.autograd.grad(q[0].sum(), a_1)
    delta = (q[0] - q[1]).abs().detach() / 2**0.5
    radius = eta / (1.0 + beta * delta / delta.mean())
    target = u_off + radius[:, None] * g / g.norm(dim=1, keepdim=True)
    u = module.actor(windows.obs, a_r, r, torch.ones_like(r)).detach()
    squared = (u - target).square() * windows.valid
    assert losses["q_guidance_loss"].item() == pytest.approx(float(squared.mean()), rel=1e-5)
    assert metrics["eta_eff"].item() == pytest.approx(float(radius.mean()), rel=1e-5)
    assert metrics["disagreement"].item() == pytest.approx(float(delta.mean()), rel=1e-5)
    assert metrics["displacement"].item() == pytest.approx(
        float((u - u_off).norm(dim=1).mean()), rel=1e-5
    )
    assert losses.keys() == {"critic_loss", "q_guidance_loss"}


def test_the_offline_losses_by_hand() -> None:
    config = make_config(target_selector="sample", distillation="esd")
    module, windows = make_module(config), make_windows()
    losses, _ = compute(module, make_context(config, interval_factor=0.6))

    source = torch.Generator().manual_seed(5)
    torch.randn(BATCH, SIZE, generator=source)  # the critic target's
    noise, t = torch.randn(BATCH, SIZE, generator=source), torch.rand(BATCH, 1, generator=source)
    with torch.no_grad():
        a_t = (1.0 - t) * noise + t * windows.actions
        u = module.actor(windows.obs, a_t, t, t)
    # Padding weighs nothing, yet counts in the divisor.
    squared = (u - (windows.actions - noise)).square() * windows.valid
    assert losses["diagonal_loss"].item() == pytest.approx(float(squared.mean()), rel=1e-5)

    r, t = flow.time_pair(torch.rand(BATCH, 2, generator=source), 0.6)
    noise = torch.randn(BATCH, SIZE, generator=source)
    v, a_r = windows.actions - noise, (1.0 - r) * noise + r * windows.actions
    eps = 1e-3
    with torch.no_grad():

        def along(h: float) -> Tensor:
            return module.actor(windows.obs, a_r + h * v, r + h, t)

        derivative = (along(eps) - along(-eps)) / (2.0 * eps)
        squared = (along(0.0) - (v + (t - r) * derivative)).square() * windows.valid
    assert losses["distillation_loss"].item() == pytest.approx(float(squared.mean()), rel=1e-3)


@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_self_distillation_waits_for_its_warm_up(factor: float) -> None:
    config = make_config()
    losses, _ = compute(make_module(config), make_context(config, interval_factor=factor))
    assert ("distillation_loss" in losses) == (factor > 0.0)


def test_loss_weights_multiply() -> None:
    plain, heavy = make_config(lambda_sd=1.0), make_config(lambda_sd=2.5)
    one, _ = compute(make_module(plain), make_context(plain))
    other, _ = compute(make_module(heavy), make_context(heavy))
    assert other["diagonal_loss"].item() == one["diagonal_loss"].item()
    assert other["distillation_loss"].item() == pytest.approx(2.5 * one["distillation_loss"].item())


def test_mvp_imitates_its_own_best_candidate() -> None:
    config = make_config(MVPConfig, num_candidates=16, target_selector="sample")
    module, windows = make_module(config), make_windows()
    context = make_context(config, online=True)
    _, metrics = compute(module, context)
    # The replay's actions play no part in what is imitated ...
    other = windows._replace(actions=windows.actions.flip(0))
    out = module.forward_train({WINDOWS: other, CONTEXT: make_context(config, online=True)})
    again, _ = compute(module, make_context(config, online=True))
    for name in ("diagonal_loss", "distillation_loss"):
        assert out[LOSSES][name].item() == again[name].item()
    # ... and the chosen ones are better than the average candidate.
    module.seed_planning(0)
    with torch.no_grad():
        single = module.plan(windows.obs.repeat(200, 1), SelectorSettings("sample")).actions
        q = module.critics(windows.obs.repeat(200, 1), single).min(0).values
    assert metrics["imitation_q_mean"].item() > float(q.mean())
