"""What one update minimises: the losses of ``flow`` put together for a batch.

``FlowMapModule._forward_train`` calls ``training_losses`` so that DDP sees one forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rllib_fmq import flow
from rllib_fmq.flow.critic import Aggregation, aggregate
from rllib_fmq.flow.distillation import Student
from rllib_fmq.flow.selection import SelectorSettings, select_actions

if TYPE_CHECKING:
    from rllib_fmq.nn.flow_map_module import FlowMapModule

OnlineObjective: TypeAlias = Literal["q_guidance", "generate_and_select", "imitation"]
"""FMQ's Eq. 12; MVP's imitation of its own best-of-N; the offline losses on replay."""


class WindowBatch(NamedTuple):
    """B windows of H consecutive steps of one episode, padded past the episode's end."""

    obs: Tensor
    """Observation at the first step, shape (B, o)."""
    actions: Tensor
    """Flattened chunk in [-1, 1], shape (B, H * d)."""
    valid: Tensor
    """1 on real steps, 0 on padding, each repeated d times, shape (B, H * d)."""
    rewards: Tensor
    """Shape (B, H)."""
    terminated: Tensor
    """Shape (B, H), bool."""
    next_obs: Tensor
    """Observation after the last step, shape (B, o)."""
    complete: Tensor
    """1 where all H steps lie in one episode, shape (B,)."""


@dataclass(frozen=True)
class LossSettings:
    """Every number and choice of the losses; the config keys of the same names."""

    gamma: float
    lambda_sd: float
    distillation: str
    distillation_student: Student
    eta: float
    beta: float
    grad_eps: float
    disagreement_eps: float
    radius_numerator: Literal["eta", "one"]
    guidance_critic: Literal["first", "mean"]
    target_aggregation: Aggregation
    target_scoring: Aggregation
    scoring: Aggregation
    target_selector: SelectorSettings
    online_objective: OnlineObjective
    imitation_candidates: int
    online_diagonal_weight: float
    online_distillation_weight: float
    conditioning_zero_prob: float


@dataclass(frozen=True)
class UpdateContext:
    """What changes from update to update."""

    settings: LossSettings
    online: bool
    """Whether the online phase's objective applies."""
    interval_factor: float
    """p of the time curriculum, in [0, 1]."""
    condition: bool
    """Whether MVP's conditioning axis is trained in this update."""
    generator: torch.Generator | None
    """Source of all noise and flow times of this update."""
    global_mean: Callable[[Tensor], Tensor]
    """Averages a scalar over all learners (Eq. 13's batch mean is over the global batch)."""


def training_losses(
    module: FlowMapModule, batch: WindowBatch, context: UpdateContext
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All loss terms of one update.

    The actor's terms give no gradient to the critics and the critics' none to the actor,
    so that one backward of their sum serves both.

    Args:
        module: Actor, critics, target critics, reference actor.
        batch: Windows from the replay.
        context: Phase, curriculum, noise source.
    Returns:
        Loss terms to be added up, and detached metrics; all scalars.
    Source: Eq. 3-8, 12, 13; Alg. 1.
    """
    losses, metrics = _critic_losses(module, batch, context)
    if context.online:
        actor_losses, actor_metrics = _online_actor_losses(module, batch, context)
    else:
        actor_losses, actor_metrics = _imitation_losses(
            module, batch.obs, batch.actions, batch.valid, context, 1.0, context.settings.lambda_sd
        )
    return losses | actor_losses, metrics | actor_metrics


def _critic_losses(
    module: FlowMapModule, batch: WindowBatch, context: UpdateContext
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    s = context.settings
    returns, bootstrap = flow.chunk_return(batch.rewards, batch.terminated, s.gamma)
    with torch.no_grad():
        next_actions = select_actions(
            s.target_selector,
            module.actor,
            lambda obs, a: aggregate(module.critics(obs, a), s.target_scoring),
            batch.next_obs,
            batch.actions.shape[1],
            context.generator,
        ).actions
        target_q = module.target_critics(batch.next_obs, next_actions)
    target = flow.bellman_target(returns, bootstrap, target_q, s.target_aggregation)
    q = module.critics(batch.obs, batch.actions)
    metrics = {"q_mean": q.detach().mean(), "q_target_mean": target.mean()}
    return {"critic_loss": flow.critic_loss(q, target, batch.complete)}, metrics


def _imitation_losses(
    module: FlowMapModule,
    obs: Tensor,
    actions: Tensor,
    weight: Tensor | None,
    context: UpdateContext,
    diagonal_weight: float,
    distillation_weight: float,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Diagonal plus self-distillation towards given chunks (Eq. 3 to 6)."""
    s = context.settings
    losses: dict[str, Tensor] = {}

    def uniform(columns: int) -> Tensor:
        return torch.rand(
            obs.shape[0], columns, generator=context.generator, device=obs.device, dtype=obs.dtype
        )

    def noise() -> Tensor:
        return torch.randn(
            actions.shape, generator=context.generator, device=obs.device, dtype=obs.dtype
        )

    condition: tuple[Tensor, Tensor] | None = None
    if context.condition:
        # App. H: t_c = 0 (no information) with the stated probability, else U[0, 1].
        t_c = uniform(1)
        t_c = torch.where(uniform(1) < s.conditioning_zero_prob, torch.zeros_like(t_c), t_c)
        noised = flow.interpolate(noise(), actions, t_c)
        condition = (t_c, torch.where(t_c == 0.0, torch.zeros_like(noised), noised))

    def velocity(a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        u: Tensor = module.actor(obs, a, r, t, condition)
        return u

    if diagonal_weight > 0.0:
        losses["diagonal_loss"] = diagonal_weight * flow.diagonal_loss(
            velocity, noise(), actions, uniform(1), weight
        )
    if distillation_weight > 0.0 and context.interval_factor > 0.0:
        r, t = flow.time_pair(uniform(2), context.interval_factor)
        losses["distillation_loss"] = distillation_weight * flow.SELF_DISTILLATION_LOSSES[
            s.distillation
        ](
            velocity,
            noise(),
            actions,
            r,
            t,
            weight,
            gamma=uniform(1),
            student=s.distillation_student,
        )
    return losses, {}


def _online_actor_losses(
    module: FlowMapModule, batch: WindowBatch, context: UpdateContext
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    s = context.settings
    if s.online_objective == "imitation":
        return _imitation_losses(
            module, batch.obs, batch.actions, batch.valid, context, 1.0, s.lambda_sd
        )
    if s.online_objective == "generate_and_select":
        with torch.no_grad():
            chosen = flow.best_of_n(
                module.actor,
                lambda obs, a: aggregate(module.critics(obs, a), s.scoring),
                batch.obs,
                batch.actions.shape[1],
                s.imitation_candidates,
                context.generator,
            )
        losses, _ = _imitation_losses(
            module, batch.obs, chosen.actions, None, context, 1.0, s.lambda_sd
        )
        return losses, {"imitation_q_mean": chosen.q_values.mean()}
    losses, metrics = _q_guidance_loss(module, batch, context)
    auxiliary, _ = _imitation_losses(
        module,
        batch.obs,
        batch.actions,
        batch.valid,
        context,
        s.online_diagonal_weight,
        s.online_distillation_weight,
    )
    return losses | auxiliary, metrics


def _q_guidance_loss(
    module: FlowMapModule, batch: WindowBatch, context: UpdateContext
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Alg. 1, lines 5 to 9."""
    s = context.settings
    obs = batch.obs
    r = torch.rand(obs.shape[0], 1, generator=context.generator, device=obs.device, dtype=obs.dtype)
    noise = torch.randn(
        batch.actions.shape, generator=context.generator, device=obs.device, dtype=obs.dtype
    )
    a_r = flow.interpolate(noise, batch.actions, r)
    one = torch.ones_like(r)
    with torch.no_grad():
        u_off = module.reference_actor(obs, a_r, r, one)
    a_1 = flow.reference_action(a_r, r, u_off)

    def guide(a: Tensor) -> tuple[Tensor, Tensor]:
        q = module.critics(obs, a)
        return q, q[0] if s.guidance_critic == "first" else q.mean(dim=0)

    q, gradient = flow.q_gradient(guide, a_1)
    disagreement = flow.critic_disagreement(q)
    radius = flow.adaptive_radius(
        disagreement,
        context.global_mean(disagreement.mean()),
        s.eta,
        s.beta,
        s.disagreement_eps,
        None if s.radius_numerator == "eta" else 1.0,
    )
    target = flow.trust_region_target(u_off, gradient, radius, s.grad_eps)
    u = module.actor(obs, a_r, r, one)
    displacement = torch.linalg.vector_norm(u.detach() - u_off, dim=-1)
    return {"q_guidance_loss": flow.masked_mse(u, target, batch.valid)}, {
        "displacement": displacement.mean(),
        "eta_eff": radius.mean(),
        "disagreement": disagreement.mean(),
        "reference_q_mean": q.mean(),
        "q_gradient_norm": torch.linalg.vector_norm(gradient, dim=-1).mean(),
    }
