"""The losses written straight from the paper; all random numbers are arguments.

They do what is written and nothing cleverer: they are the oracle of the optimised losses.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.func import jvp

from benchmarks.speed.plain_networks import Nets

Condition = tuple[Tensor, Tensor] | None


class Windows(Protocol):
    """Fields of a batch; ``rllib_fmq``'s WindowBatch has them."""

    obs: Tensor
    actions: Tensor
    valid: Tensor
    rewards: Tensor
    terminated: Tensor
    next_obs: Tensor
    complete: Tensor


class Batch(NamedTuple):
    """A batch of windows, see ``problem.random_batch`` for the shapes."""

    obs: Tensor
    actions: Tensor
    valid: Tensor
    rewards: Tensor
    terminated: Tensor
    next_obs: Tensor
    complete: Tensor


def mean_square(error: Tensor, weight: Tensor | None) -> Tensor:
    """Weighted squared error over the full count, padding included: (B, A) -> scalar."""
    return error.square().mean() if weight is None else (weight * error.square()).mean()


def critic_loss(
    nets: Nets,
    batch: Windows,
    next_actions: Tensor,
    gamma: float = 0.99,
    aggregation: Literal["min", "mean"] = "min",
) -> Tensor:
    """Eq. 8 over chunks, for given actions a'_1 at the next observation, (B, A)."""
    with torch.no_grad():
        values = torch.stack([q(batch.next_obs, next_actions) for q in nets.target_critics])
        value = values.min(dim=0).values if aggregation == "min" else values.mean(dim=0)
        alive = torch.ones_like(value)
        target = torch.zeros_like(value)
        for i in range(batch.rewards.shape[1]):
            target = target + gamma**i * alive * batch.rewards[:, i]
            alive = alive * ~batch.terminated[:, i]
        target = target + gamma ** batch.rewards.shape[1] * alive * value
    return sum(
        (batch.complete * (q(batch.obs, batch.actions) - target).square()).mean()
        for q in nets.critics
    )


def diagonal_loss(
    nets: Nets,
    obs: Tensor,
    actions: Tensor,
    weight: Tensor | None,
    noise: Tensor,
    t: Tensor,
    condition: Condition = None,
) -> Tensor:
    """Eq. 3. Noise (B, A), t (B, 1)."""
    a_t = (1 - t) * noise + t * actions
    return mean_square(nets.actor(obs, a_t, t, t, condition) - (actions - noise), weight)


def distillation_loss(
    kind: Literal["esd", "lsd", "psd"],
    nets: Nets,
    obs: Tensor,
    actions: Tensor,
    weight: Tensor | None,
    noise: Tensor,
    r: Tensor,
    t: Tensor,
    split: Tensor | None = None,
    condition: Condition = None,
    student: Literal["jump", "composition"] = "jump",
) -> Tensor:
    """Eq. 5, 4 or 6. Noise (B, A); r, t, and PSD's split g (B, 1).

    ``student`` is the side of LSD and PSD that carries the gradient.
    """

    def u(a: Tensor, start: Tensor, end: Tensor) -> Tensor:
        return nets.actor(obs, a, start, end, condition)

    a_r = (1 - r) * noise + r * actions
    if kind == "esd":
        v = actions - noise
        jumped, du = jvp(lambda r_, a_: u(a_, r_, t), (r, a_r), (torch.ones_like(r), v))
        return mean_square(jumped - (v + (t - r) * du).detach(), weight)
    if kind == "lsd":
        end, d_end = jvp(lambda t_: a_r + (t_ - r) * u(a_r, r, t_), (t,), (torch.ones_like(t),))
        end = end.detach()
        if student == "composition":
            return mean_square(d_end.detach() - u(end, t, t), weight)
        with torch.no_grad():
            tangent = u(end, t, t)
        return mean_square(d_end - tangent, weight)
    assert split is not None
    w = (1 - split) * r + split * t

    def composed() -> Tensor:
        first = u(a_r, r, w)
        return split * first + (1 - split) * u(a_r + (w - r) * first, w, t)

    if student == "composition":
        with torch.no_grad():
            direct = u(a_r, r, t)
        return mean_square(composed() - direct, weight)
    with torch.no_grad():
        target = composed()
    return mean_square(u(a_r, r, t) - target, weight)


def q_guidance_loss(
    nets: Nets,
    batch: Windows,
    noise: Tensor,
    r: Tensor,
    eta: float = 1.0,
    beta: float = 0.3,
    *,
    grad_eps: float = 1e-8,
    disagreement_eps: float = 1e-8,
    numerator: float | None = None,
    guidance_critic: Literal["first", "mean"] = "first",
) -> Tensor:
    """Eq. 12 with Eq. 13's radius. Noise (B, A), r (B, 1).

    ``numerator`` replaces eta in the radius (1: Eq. 13 as printed); the mean of "mean" is over
    the critics.
    """
    a_r = (1 - r) * noise + r * batch.actions
    one = torch.ones_like(r)
    with torch.no_grad():
        u_off = nets.reference_actor(batch.obs, a_r, r, one)
    a_1 = (a_r + (1 - r) * u_off).clamp(-1, 1).requires_grad_(True)
    values = [critic(batch.obs, a_1) for critic in nets.critics]
    guide = values[0] if guidance_critic == "first" else torch.stack(values).mean(dim=0)
    (g,) = torch.autograd.grad(guide.sum(), a_1)
    q = torch.stack(values).detach()
    # The sample standard deviation: |Q_1 - Q_2| / sqrt(2) for two critics.
    delta = q.std(dim=0) if len(q) > 1 else torch.zeros_like(q[0])
    radius = (eta if numerator is None else numerator) / (
        1 + beta * delta / (delta.mean() + disagreement_eps)
    )
    target = u_off + radius[:, None] * g / (g.norm(dim=-1, keepdim=True) + grad_eps)
    return mean_square(nets.actor(batch.obs, a_r, r, one) - target, batch.valid)
