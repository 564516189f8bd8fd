"""The critic's side: returns of action chunks, the Bellman target, the loss."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Aggregation: TypeAlias = Literal["min", "mean"]


def aggregate(q_values: Tensor, how: Aggregation) -> Tensor:
    """One value from an ensemble.

    Args:
        q_values: Shape (n, B).
        how: "min" (clipped double Q, Eq. 8) or "mean" (Table 6).
    Returns:
        Shape (B,).
    Source: Eq. 8, Table 6.
    """
    return q_values.amin(dim=0) if how == "min" else q_values.mean(dim=0)


def chunk_return(rewards: Tensor, terminated: Tensor, discount: float) -> tuple[Tensor, Tensor]:
    """Discounted reward of H steps, stopped by a termination among them.

        R = sum_{i<H} gamma^i alive_i r_i,   alive_i = prod_{k<i} (1 - terminated_k)
        b = gamma^H prod_{k<H} (1 - terminated_k)

    The reward of the terminating step itself counts. Truncation is not termination.

    Args:
        rewards: Shape (B, H).
        terminated: True where the MDP ended at that step, shape (B, H), bool.
        discount: gamma in [0, 1].
    Returns:
        R of shape (B,), and b, what the next value is multiplied by, of shape (B,).
    Source: Eq. 8 over chunks.
    """
    horizon = rewards.shape[1]
    survives = torch.cumprod(1.0 - terminated.to(rewards.dtype), dim=1)
    alive = torch.cat([torch.ones_like(survives[:, :1]), survives[:, :-1]], dim=1)
    powers = discount ** torch.arange(horizon, device=rewards.device, dtype=rewards.dtype)
    return (rewards * alive * powers).sum(dim=1), survives[:, -1] * discount**horizon


def bellman_target(
    returns: Tensor, bootstrap: Tensor, target_q: Tensor, how: Aggregation
) -> Tensor:
    """Target of the critics.

        y = R + b * agg_j Qbar_j(s_H, a'_1)

    Args:
        returns: R, shape (B,).
        bootstrap: b, shape (B,): gamma^H, or 0 where the episode terminated.
        target_q: Values of the target critics at the policy's action, shape (n, B).
        how: Aggregation over the ensemble.
    Returns:
        Detached y, shape (B,).
    Source: Eq. 8 over chunks.
    """
    return (returns + bootstrap * aggregate(target_q, how)).detach()


def critic_loss(q_values: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Squared Bellman error of every critic.

        L = sum_j 1/B sum_b weight_b (Q_j(s_b, a_b) - y_b)^2

    Args:
        q_values: Shape (n, B).
        target: y, shape (B,).
        weight: 1 for windows whose H steps lie in one episode, else 0, shape (B,).
    Returns:
        Scalar loss, summed over the ensemble.
    Source: Eq. 8.
    """
    return ((q_values - target).square() * weight).mean(dim=1).sum()
