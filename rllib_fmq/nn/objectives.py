"""What one update minimises: the losses of ``flow`` put together for a batch.

``FlowMapModule._forward_train`` calls ``training_losses`` so that DDP sees one forward. All
random numbers are drawn before the losses are computed, in ``rllib_fmq.nn.draws``; what has a
gradient is one pure function, which can be compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rllib_fmq import flow
from rllib_fmq.flow.critic import Aggregation
from rllib_fmq.flow.distillation import Student
from rllib_fmq.flow.selection import SelectorSettings, select_bound
from rllib_fmq.nn.compilation import maybe_compiled
from rllib_fmq.nn.critic_gradient import action_gradient, critic_values
from rllib_fmq.nn.draws import ImitationDraws, draw_imitation, draw_interpolant
from rllib_fmq.nn.network_policy import NetworkPolicy
from rllib_fmq.nn.network_views import NetworkViews, critic_views
from rllib_fmq.nn.velocity_field import VelocityField

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
    compiled: bool = False
    """Whether the losses, and what chooses among many candidates, run as compiled code."""


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
    s = context.settings
    next_actions = _select(
        module, s.target_selector, s.target_scoring, batch.next_obs, batch, context
    ).actions
    metrics: dict[str, Tensor] = {}
    guided: Guided | None = None
    chunks = batch.actions
    weight: Tensor | None = batch.valid
    diagonal, distillation = 1.0, s.lambda_sd
    if context.online and s.online_objective == "generate_and_select":
        settings = SelectorSettings("best_of_n", num_candidates=s.imitation_candidates)
        chosen = _select(module, settings, s.scoring, batch.obs, batch, context)
        chunks, weight = chosen.actions, None
        metrics["imitation_q_mean"] = chosen.q_values.mean()
    elif context.online and s.online_objective == "q_guidance":
        guided = _guided(module, batch, context)
        diagonal, distillation = s.online_diagonal_weight, s.online_distillation_weight
    imitated = draw_imitation(
        chunks,
        context.generator,
        diagonal=diagonal > 0.0,
        interval_factor=context.interval_factor if distillation > 0.0 else 0.0,
        condition=context.condition,
        zero_prob=s.conditioning_zero_prob,
    )
    compiled = context.compiled and _compiles(imitated, s.distillation)
    losses, loss_metrics = maybe_compiled(differentiable_losses, compiled)(
        module, batch, next_actions, chunks, weight, imitated, guided, s, diagonal, distillation
    )
    return losses, metrics | loss_metrics


def _compiles(imitated: ImitationDraws, distillation: str) -> bool:
    """Whether the losses take no gradient through ``torch.func.jvp``, which torch cannot compile.

    The Lagrangian loss does, and the Eulerian one where it has no diagonal to go along with.
    """
    if imitated.pair is None or distillation == "psd":
        return True
    return distillation == "esd" and imitated.diagonal is not None


class Guided(NamedTuple):
    """What Q-guidance aims at, without a gradient (Alg. 1, lines 5 to 8)."""

    a_r: Tensor
    """Interpolant, shape (B, A)."""
    r: Tensor
    """Shape (B, 1)."""
    reference_velocity: Tensor
    """u_off, shape (B, A)."""
    q_values: Tensor
    """Of the reference's action, shape (n, B)."""
    gradient: Tensor
    """dQ/da there, shape (B, A)."""
    disagreement: Tensor
    """Shape (B,)."""
    mean_disagreement: Tensor
    """Over all learners, scalar."""


def _select(
    module: FlowMapModule,
    settings: SelectorSettings,
    scoring: Aggregation,
    obs: Tensor,
    batch: WindowBatch,
    context: UpdateContext,
) -> flow.SelectionResult:
    with torch.no_grad():
        policy = NetworkPolicy(
            NetworkViews(module.actor, module.critics, obs.shape[1]),
            obs,
            scoring,
            compiled=context.compiled,
        )
        return select_bound(settings, policy, obs, batch.actions.shape[1], context.generator)


def _guided(module: FlowMapModule, batch: WindowBatch, context: UpdateContext) -> Guided:
    r, noise = draw_interpolant(batch.actions, context.generator)
    with torch.no_grad():
        a_r = flow.interpolate(noise, batch.actions, r)
        u_off, q, gradient = maybe_compiled(reference_guidance, context.compiled)(
            module, batch.obs, a_r, r, context.settings.guidance_critic == "first"
        )
        disagreement = flow.critic_disagreement(q)
    mean = context.global_mean(disagreement.mean())
    return Guided(a_r, r, u_off, q, gradient, disagreement, mean)


def reference_guidance(
    module: FlowMapModule, obs: Tensor, a_r: Tensor, r: Tensor, first_critic: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The reference's velocity, the critics' values of its action, and the guiding gradient.

    One pass of the ensemble serves Eq. 13's disagreement and the gradient.

    Args:
        module: Reference actor and critics.
        obs: Shape (B, o).
        a_r: Shape (B, A).
        r: Shape (B, 1).
        first_critic: Whether Q_1 guides (Alg. 1), or the mean of all.
    Returns:
        u_off (B, A), values (n, B), gradient (B, A).
    Source: Alg. 1, lines 5 to 8.
    """
    u_off = module.reference_actor(obs, a_r, r, torch.ones_like(r))
    a_1 = flow.reference_action(a_r, r, u_off)
    inputs = torch.cat([obs, a_1], dim=-1)
    critics, form = critic_views(module.critics, obs.shape[1]), module.critics.gelu
    used = 1 if first_critic else len(critics)
    values, parts = [], []
    for j, critic in enumerate(critics):
        q, tape = critic_values(critic, inputs, form)
        values.append(q)
        if j < used:
            parts.append(action_gradient(critic, tape, torch.full_like(q, 1.0 / used), form))
    gradient = torch.stack(parts).sum(dim=0)
    return u_off, torch.stack(values), gradient


def differentiable_losses(
    module: FlowMapModule,
    batch: WindowBatch,
    next_actions: Tensor,
    chunks: Tensor,
    weight: Tensor | None,
    imitated: ImitationDraws,
    guided: Guided | None,
    settings: LossSettings,
    diagonal_weight: float,
    distillation_weight: float,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every loss term, all randomness and all targets of selection being given.

    Args:
        module: Actor, critics and target critics.
        batch: Windows from the replay.
        next_actions: a'_1, shape (B, A).
        chunks: What is imitated, shape (B, A).
        weight: 0 on its padded numbers, shape (B, A), or None.
        imitated: Noise and flow times of imitation.
        guided: What Q-guidance aims at, if it does.
        settings: Numbers and choices.
        diagonal_weight: Of the diagonal loss.
        distillation_weight: Of the self-distillation loss.
    Returns:
        Loss terms and detached metrics, all scalars.
    Source: Eq. 3-8, 12, 13.
    """
    losses, metrics = _critic_loss(module, batch, next_actions, settings)
    if guided is not None:
        loss, guidance_metrics = _q_guidance_loss(module, batch, guided, settings)
        losses |= loss
        metrics |= guidance_metrics
    losses |= imitation_losses(
        module.actor,
        batch.obs,
        chunks,
        weight,
        imitated,
        settings,
        diagonal_weight,
        distillation_weight,
    )
    return losses, metrics


def _critic_loss(
    module: FlowMapModule, batch: WindowBatch, next_actions: Tensor, s: LossSettings
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    returns, bootstrap = flow.chunk_return(batch.rewards, batch.terminated, s.gamma)
    with torch.no_grad():
        target_q = module.target_critics(batch.next_obs, next_actions)
    target = flow.bellman_target(returns, bootstrap, target_q, s.target_aggregation)
    q = module.critics(batch.obs, batch.actions)
    metrics = {"q_mean": q.detach().mean(), "q_target_mean": target.mean()}
    return {"critic_loss": flow.critic_loss(q, target, batch.complete)}, metrics


def _q_guidance_loss(
    module: FlowMapModule, batch: WindowBatch, guided: Guided, s: LossSettings
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Alg. 1, line 9."""
    radius = flow.adaptive_radius(
        guided.disagreement,
        guided.mean_disagreement,
        s.eta,
        s.beta,
        s.disagreement_eps,
        None if s.radius_numerator == "eta" else 1.0,
    )
    u_off = guided.reference_velocity
    target = flow.trust_region_target(u_off, guided.gradient, radius, s.grad_eps)
    u = module.actor(batch.obs, guided.a_r, guided.r, torch.ones_like(guided.r))
    displacement = torch.linalg.vector_norm(u.detach() - u_off, dim=-1)
    return {"q_guidance_loss": flow.masked_mse(u, target, batch.valid)}, {
        "displacement": displacement.mean(),
        "eta_eff": radius.mean(),
        "disagreement": guided.disagreement.mean(),
        "reference_q_mean": guided.q_values.mean(),
        "q_gradient_norm": torch.linalg.vector_norm(guided.gradient, dim=-1).mean(),
    }


def imitation_losses(
    actor: VelocityField,
    obs: Tensor,
    actions: Tensor,
    weight: Tensor | None,
    draws: ImitationDraws,
    settings: LossSettings,
    diagonal_weight: float = 1.0,
    distillation_weight: float = 1.0,
) -> dict[str, Tensor]:
    """Diagonal and self-distillation towards given chunks.

    With the Eulerian loss, the diagonal's points and the student's go through the actor in one
    pass, and the derivative along (1, 0, v) is carried forward beside it.

    Args:
        actor: u.
        obs: Shape (B, o).
        actions: a_1, shape (B, A).
        weight: 0 on padded numbers, shape (B, A), or None.
        draws: Noise and flow times; the terms whose noise is missing are left out.
        settings: Which self-distillation.
        diagonal_weight: Weight of the diagonal.
        distillation_weight: Weight of self-distillation.
    Returns:
        "diagonal_loss" and "distillation_loss", scalars, as far as drawn for.
    Source: Eq. 3 to 6.
    """
    condition: tuple[Tensor, Tensor] | None = None
    if draws.t_c is not None and draws.condition_noise is not None:
        noised = flow.interpolate(draws.condition_noise, actions, draws.t_c)
        condition = (draws.t_c, torch.where(draws.t_c == 0.0, torch.zeros_like(noised), noised))
    diagonal, pair = draws.diagonal, draws.pair
    if diagonal is not None and pair is not None and settings.distillation == "esd":
        a_t = flow.interpolate(diagonal.noise, actions, diagonal.t)
        a_r = flow.interpolate(pair.noise, actions, pair.r)
        v = actions - pair.noise
        u, du = actor.with_tangent(
            torch.cat([obs, obs]),
            torch.cat([a_t, a_r]),
            torch.cat([diagonal.t, pair.r]),
            torch.cat([diagonal.t, pair.t]),
            v,
            condition and (torch.cat([condition[0]] * 2), torch.cat([condition[1]] * 2)),
        )
        u_t, u_r = u.chunk(2)
        target = (v + (pair.t - pair.r) * du).detach()
        on_diagonal = flow.masked_mse(u_t, actions - diagonal.noise, weight)
        distilled = flow.masked_mse(u_r, target, weight)
        return {
            "diagonal_loss": diagonal_weight * on_diagonal,
            "distillation_loss": distillation_weight * distilled,
        }

    def velocity(a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        out: Tensor = actor(obs, a, r, t, condition)
        return out

    losses: dict[str, Tensor] = {}
    if diagonal is not None:
        losses["diagonal_loss"] = diagonal_weight * flow.diagonal_loss(
            velocity, diagonal.noise, actions, diagonal.t, weight
        )
    if pair is not None:
        losses["distillation_loss"] = distillation_weight * flow.SELF_DISTILLATION_LOSSES[
            settings.distillation
        ](
            velocity,
            pair.noise,
            actions,
            pair.r,
            pair.t,
            weight,
            gamma=pair.split,
            student=settings.distillation_student,
        )
    return losses
