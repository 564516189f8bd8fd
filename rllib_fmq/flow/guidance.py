"""Q-guidance: the closed-form learning target of FMQ and its adaptive radius."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def q_gradient(
    q_fn: Callable[[Tensor], tuple[Tensor, Tensor]], actions: Tensor
) -> tuple[Tensor, Tensor]:
    """Critic values at some actions, and a scalar critic's gradient with respect to them.

        g = d/da sum_b q(a_b)

    Works under ``no_grad``. Neither the critic's parameters nor ``actions`` receive a
    gradient.

    Args:
        q_fn: Maps actions (B, A) to (ensemble values of any shape, scalar value a row (B,)).
            Only the second is differentiated; the first is handed back.
        actions: Where to differentiate, shape (B, A).
    Returns:
        The ensemble values, detached, and g of shape (B, A), detached.
    Source: ours; used by Eq. 12 and Alg. 2, line 9.
    """
    with torch.enable_grad():
        point = actions.detach().requires_grad_(True)
        ensemble, guide = q_fn(point)
        (gradient,) = torch.autograd.grad(guide.sum(), point)
    return ensemble.detach(), gradient.detach()


def normalise(vector: Tensor, eps: float) -> Tensor:
    """Unit direction of each row.

        g / (|g|_2 + eps)

    Args:
        vector: Shape (B, A).
        eps: Stability constant, > 0.
    Returns:
        Shape (B, A), rows of norm at most 1.
    Source: Eq. 12.
    """
    unit: Tensor = vector / (torch.linalg.vector_norm(vector, dim=-1, keepdim=True) + eps)
    return unit


def trust_region_target(
    reference_velocity: Tensor, q_grad: Tensor, radius: float | Tensor, grad_eps: float = 1e-8
) -> Tensor:
    """Velocity target of the trust-region step.

        u* = u_off + eta_eff * g / (|g|_2 + kappa_1)

    For a linear Q this is the exact maximiser of Q over the ball of that radius about u_off.

    Args:
        reference_velocity: u_off, shape (B, A), action units per unit of flow time.
        q_grad: dQ/da at the reference action, shape (B, A).
        radius: eta_eff, scalar or shape (B, 1), >= 0.
        grad_eps: kappa_1, > 0.
    Returns:
        Detached target, shape (B, A).
    Source: Eq. 12, Theorem 3.2.
    """
    return (reference_velocity + radius * normalise(q_grad, grad_eps)).detach()


def critic_disagreement(q_values: Tensor) -> Tensor:
    """Spread of the critic ensemble.

        delta = std(Q_1, ..., Q_n), which for two critics is |Q_1 - Q_2| / sqrt(2)

    A single critic has no spread: 0.

    Args:
        q_values: Ensemble values, shape (n, B) with n >= 1.
    Returns:
        delta, shape (B,), >= 0.
    Source: Section 3.3; the sample standard deviation is its extension to n > 2.
    """
    if q_values.shape[0] == 1:
        return torch.zeros_like(q_values[0])
    if q_values.shape[0] == 2:
        return (q_values[0] - q_values[1]).abs().mul(0.5**0.5)
    return q_values.std(dim=0)


def adaptive_radius(
    disagreement: Tensor,
    mean_disagreement: Tensor,
    eta: float,
    beta: float,
    disagreement_eps: float = 1e-8,
    numerator: float | None = None,
) -> Tensor:
    """Trust-region radius of each sample, smaller where the critics disagree.

        eta_eff = eta / (1 + beta * delta / (mean(delta) + kappa_2))

    Args:
        disagreement: delta, shape (B,), >= 0.
        mean_disagreement: Mean of delta over the global batch (all learners), scalar.
        eta: Radius where the critics agree, >= 0.
        beta: Sensitivity to disagreement, >= 0.
        disagreement_eps: kappa_2, > 0.
        numerator: Replaces eta in the numerator; 1.0 is Eq. 13 as printed.
    Returns:
        eta_eff in (0, eta], shape (B, 1).
    Source: Eq. 13 with Alg. 1's numerator.
    """
    relative = disagreement / (mean_disagreement + disagreement_eps)
    return ((eta if numerator is None else numerator) / (1.0 + beta * relative)).unsqueeze(-1)


def reference_action(a_r: Tensor, r: Tensor, reference_velocity: Tensor) -> Tensor:
    """Action that the reference reaches from a_r, clipped to the action box.

        a_1 = clip(a_r + (1 - r) u_off_{r,1}(a_r), -1, 1)

    Args:
        a_r: Interpolant, shape (B, A).
        r: Flow time in [0, 1), shape (B, 1).
        reference_velocity: u_off_{r,1}(a_r), shape (B, A).
    Returns:
        a_1, shape (B, A), in [-1, 1].
    Source: Alg. 1, line 6.
    """
    return (a_r + (1.0 - r) * reference_velocity).clamp(-1.0, 1.0)
