"""The straight interpolant between noise and actions, and the flow map's jump."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

VelocityFn: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``velocity(a, r, t) -> u_{r,t}(a)``; the observation is already bound.

``a`` has shape (B, A), ``r`` and ``t`` shape (B, 1) with 0 <= r <= t <= 1, the result
shape (B, A) in action units per unit of flow time. A = horizon_length * action_dim.
"""


def interpolate(noise: Tensor, actions: Tensor, r: Tensor) -> Tensor:
    """Point on the straight path from noise to actions.

        a_r = (1 - r) a_0 + r a_1

    Args:
        noise: a_0, standard normal, shape (B, A).
        actions: a_1, clean action chunks in [-1, 1], shape (B, A).
        r: Flow time in [0, 1], shape (B, 1).
    Returns:
        a_r, shape (B, A).
    Source: paper, Section 2.
    """
    return torch.lerp(noise, actions, r)


def jump(velocity: VelocityFn, a_r: Tensor, r: Tensor, t: Tensor) -> Tensor:
    """One application of the flow map.

        X_{r,t}(a_r) = a_r + (t - r) u_{r,t}(a_r)

    Args:
        velocity: Average velocity u, see ``VelocityFn``.
        a_r: Start of the jump, shape (B, A).
        r: Start time in [0, 1], shape (B, 1).
        t: End time in [r, 1], shape (B, 1).
    Returns:
        X_{r,t}(a_r), shape (B, A).
    Source: Eq. 2.
    """
    return a_r + (t - r) * velocity(a_r, r, t)


def masked_mse(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Squared error averaged over every number of the batch, padding weighted zero.

        L = 1/(B A) sum_{b,i} weight_{b,i} (prediction_{b,i} - target_{b,i})^2

    The divisor counts the padded numbers too, so that the mean over learners of their
    losses is the loss of the joined batch.

    Args:
        prediction: Shape (B, A).
        target: Shape (B, A); detach it where it must carry no gradient.
        weight: 1 for real steps, 0 for padding, shape (B, A); None means all ones.
    Returns:
        Scalar loss.
    Source: ours (the paper writes the plain squared norm).
    """
    squared = (prediction - target).square()
    return squared.mean() if weight is None else (squared * weight).mean()
