"""Both ways to compute an update, side by side: the package's, and as the paper writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed import plain
from benchmarks.speed.problem import Sizes, random_batch
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn import compilation
from rllib_fmq.nn.critic_ensemble import CriticEnsemble
from rllib_fmq.nn.draws import draw_imitation, draw_interpolant
from rllib_fmq.nn.flow_map_module import CONTEXT, LOSSES, WINDOWS, FlowMapModule
from rllib_fmq.nn.objectives import UpdateContext, WindowBatch
from rllib_fmq.nn.velocity_field import VelocityField

SMALL = Sizes(obs_dim=5, action_dim=2, horizon=3, batch_size=16, hidden=(32, 32, 32))
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Largest difference of a tensor's numbers, over the largest number of the expected tensor."""


@dataclass(frozen=True)
class Case:
    """One update: a method, its settings, its phase."""

    config_class: type[FlowMapConfig]
    training: dict[str, Any] = field(default_factory=dict)
    online: bool = False
    condition: bool = False
    interval_factor: float = 0.8
    sizes: Sizes = SMALL
    seed: int = 0
    """Of weights, windows and noise."""


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """max |found - expected| / max |expected|, or the difference itself where all is zero."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    largest = expected.abs().max().item()
    return (found - expected).abs().max().item() / (largest or 1.0)


def shake_(module: nn.Module, generator: torch.Generator) -> None:
    """Away from what initialisation makes 0, 1 or equal, as after some training."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def make_module(case: Case, dtype: torch.dtype) -> FlowMapModule:
    """All four networks, no two alike."""
    config, sizes = make_config(case), case.sizes
    spaces = (
        gym.spaces.Box(-np.inf, np.inf, (sizes.obs_dim,), np.float32),
        gym.spaces.Box(-1.0, 1.0, (sizes.action_dim,), np.float32),
    )
    with torch.random.fork_rng():
        torch.manual_seed(case.seed)
        module: FlowMapModule = config.get_rl_module_spec(spaces={"default_policy": spaces}).build()
    generator = torch.Generator().manual_seed(case.seed + 1)
    for part in (module.actor, module.critics, module.target_critics, module.reference_actor):
        shake_(part, generator)
    return module.to(dtype)


def make_config(case: Case) -> FlowMapConfig:
    small = {
        "horizon_length": case.sizes.horizon,
        "actor_hidden": case.sizes.hidden,
        "critic_hidden": case.sizes.hidden,
        "num_candidates": 4,
        "euler_steps": 3,
        "gamma": 0.9,
        "eta": 0.7,
        "beta": 0.4,
        "lambda_sd": 0.0 if case.config_class.__name__ == "QCConfig" else 0.6,
    }
    return case.config_class().training(**(small | case.training))


def make_windows(case: Case, dtype: torch.dtype) -> WindowBatch:
    """Some windows are padded, and some end in a termination; what lies in padding is not zero."""
    arrays = random_batch(case.sizes, seed=31 + case.seed)
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    terminated = tensors.pop("terminated")
    windows = WindowBatch(
        terminated=terminated, **{name: value.to(dtype) for name, value in tensors.items()}
    )
    assert 0 < windows.complete.sum() < case.sizes.batch_size
    assert 0 < terminated.any(dim=1).sum() < case.sizes.batch_size
    assert terminated.any(dim=1)[windows.complete > 0].any()
    return windows


def make_context(case: Case, **changes: Any) -> UpdateContext:
    context = UpdateContext(
        settings=make_config(case).loss_settings(),
        online=case.online,
        interval_factor=case.interval_factor,
        condition=case.condition,
        generator=torch.Generator().manual_seed(case.seed + 2),
        global_mean=lambda value: value,
    )
    return replace(context, **changes)


def package_update(
    module: FlowMapModule, windows: WindowBatch, context: UpdateContext
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Loss terms, and each parameter's gradient of their sum, by the package."""
    module.zero_grad()
    losses = module.forward_train({WINDOWS: windows, CONTEXT: context})[LOSSES]
    torch.stack(list(losses.values())).sum().backward()
    grads = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in losses.items()}, grads


def plain_nets(
    actor: VelocityField,
    critics: CriticEnsemble,
    target_critics: CriticEnsemble | None = None,
    reference_actor: VelocityField | None = None,
) -> plain.Nets:
    """Separate networks with the same weights."""
    return plain.Nets.from_state_dicts(
        actor.state_dict(),
        critics.state_dict(),
        None if target_critics is None else target_critics.state_dict(),
        None if reference_actor is None else reference_actor.state_dict(),
        time_features=2 * actor.freqs.numel(),
        conditioning=actor.conditioning,
        gelu=actor.gelu,
    )


def plain_update(
    module: FlowMapModule, windows: WindowBatch, context: UpdateContext
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same as the paper writes it, from the same random numbers."""
    nets = plain_nets(module.actor, module.critics, module.target_critics, module.reference_actor)
    losses = plain_losses(nets, windows, context)
    sum(losses.values()).backward()
    return {name: value.detach() for name, value in losses.items()}, plain.gradients_like(nets)


def plain_losses(
    nets: plain.Nets, windows: WindowBatch, context: UpdateContext
) -> dict[str, Tensor]:
    """Loss terms for the numbers that ``rllib_fmq.nn.draws`` draws."""
    s, source = context.settings, context.generator
    next_actions, _ = plain_choice(
        nets, s.target_selector, s.target_scoring, windows.next_obs, windows.actions, source
    )
    losses = {
        "critic_loss": plain.critic_loss(nets, windows, next_actions, s.gamma, s.target_aggregation)
    }
    chunks, weight = windows.actions, windows.valid
    diagonal, distillation = 1.0, s.lambda_sd
    if context.online and s.online_objective == "generate_and_select":
        best = SelectorSettings("best_of_n", num_candidates=s.imitation_candidates)
        chunks, _ = plain_choice(nets, best, s.scoring, windows.obs, chunks, source)
        weight = None
    elif context.online and s.online_objective == "q_guidance":
        r, noise = draw_interpolant(chunks, source)
        losses["q_guidance_loss"] = plain.q_guidance_loss(
            nets,
            windows,
            noise,
            r,
            s.eta,
            s.beta,
            grad_eps=s.grad_eps,
            disagreement_eps=s.disagreement_eps,
            numerator=1.0 if s.radius_numerator == "one" else None,
            guidance_critic=s.guidance_critic,
        )
        diagonal, distillation = s.online_diagonal_weight, s.online_distillation_weight
    draws = draw_imitation(
        chunks,
        source,
        diagonal=diagonal > 0.0,
        interval_factor=context.interval_factor if distillation > 0.0 else 0.0,
        condition=context.condition,
        zero_prob=s.conditioning_zero_prob,
    )
    condition = None
    if draws.t_c is not None:
        a_c = (1 - draws.t_c) * draws.condition_noise + draws.t_c * chunks
        condition = draws.t_c, a_c * (draws.t_c > 0)
    common = nets, windows.obs, chunks, weight
    if draws.diagonal is not None:
        losses["diagonal_loss"] = diagonal * plain.diagonal_loss(
            *common, draws.diagonal.noise, draws.diagonal.t, condition
        )
    if draws.pair is not None:
        noise, r, t, split = draws.pair
        losses["distillation_loss"] = distillation * plain.distillation_loss(
            s.distillation, *common, noise, r, t, split, condition, s.distillation_student
        )
    return losses


class _EulerCompletion(nn.Module):
    """u_{r,r} where a renoised action is completed (r > 0), u_{0,1} for first samples."""

    def __init__(self, actor: nn.Module) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, obs: Tensor, a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return self.actor(obs, a, r, torch.where(r > 0, r, t))


def plain_choice(
    nets: plain.Nets,
    settings: SelectorSettings,
    scoring: str,
    obs: Tensor,
    like: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Chunks and their values by the selector that ``settings`` names."""

    def normal(count: int) -> Tensor:
        shape = obs.shape[0], count, like.shape[1]
        return torch.randn(shape, generator=generator, dtype=obs.dtype)

    if settings.kind == "sample":
        chunks = plain.sample(nets, obs, normal(1)[:, 0])
        return chunks, torch.full_like(chunks[:, 0], torch.nan)
    if settings.kind == "best_of_n":
        return plain.best_of_n(nets, obs, normal(settings.num_candidates), scoring)
    if settings.kind == "euler":
        noise = normal(settings.num_candidates)
        return plain.euler_best_of_n(nets, obs, noise, settings.euler_steps, scoring)
    if settings.completion == "euler":
        nets = replace(nets, actor=_EulerCompletion(nets.actor))
    copies = settings.beam_width * settings.branches
    return plain.qgbs(
        nets,
        obs,
        normal(settings.beam_width),
        [normal(copies) for _ in range(settings.search_iters)],
        eta=settings.eta,
        snr=settings.snr,
        scoring=scoring,
        grad_eps=settings.grad_eps,
    )


def differences(
    found: tuple[dict[str, Tensor], dict[str, Tensor]],
    expected: tuple[dict[str, Tensor], dict[str, Tensor]],
) -> dict[str, float]:
    """``relative_difference`` of every loss term and every gradient, which must be the same."""
    out: dict[str, float] = {}
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        out |= {name: relative_difference(ours[name], theirs[name]) for name in ours}
    return out


def compare(case: Case, dtype: torch.dtype, **changes: Any) -> None:
    """Fail unless both ways agree within ``TOLERANCE``."""
    module, windows = make_module(case, dtype), make_windows(case, dtype)
    ours = package_update(module, windows, make_context(case, **changes))
    expected = plain_update(module, windows, make_context(case))
    for part in ("actor", "critics"):
        grads = [grad for name, grad in expected[1].items() if name.startswith(part)]
        assert len(grads) == len(list(getattr(module, part).parameters()))
        assert all(grad.abs().max() > 0 for grad in grads)
    apart = {n: d for n, d in differences(ours, expected).items() if not d <= TOLERANCE[dtype]}
    assert not apart


@contextmanager
def compiled_formulas() -> Iterator[Sequence[str]]:
    """What is to be compiled runs as it is, in the form that compiled code takes.

    Yields the names of the functions that ran so.
    """
    names: list[str] = []

    def compile_not(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            names.append(function.__name__)
            with patch.object(torch.compiler, "is_compiling", lambda: True):
                return function(*args, **kwargs)

        return run

    compilation._compiled.cache_clear()
    try:
        with patch.object(torch, "compile", compile_not):
            yield names
    finally:
        compilation._compiled.cache_clear()
