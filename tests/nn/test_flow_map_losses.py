"""The RLModule's losses: by hand, and which parameters each of them trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rllib_fmq import FMQConfig, MVPConfig, QCConfig, flow
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn.flow_map_module import (
    CONTEXT,
    LOSSES,
    WINDOWS,
)

from .small_module import (
    BATCH,
    GAMMA,
    HORIZON,
    SIZE,
    compute,
    make_config,
    make_context,
    make_module,
    make_windows,
)

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
