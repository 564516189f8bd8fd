"""Offline actor losses: the diagonal, and three ways to distil the flow into its own map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor
from torch.func import jvp

from rllib_fmq.flow.interpolant import VelocityFn, interpolate, jump, masked_mse

Student: TypeAlias = Literal["jump", "composition"]


def diagonal_loss(
    velocity: VelocityFn, noise: Tensor, actions: Tensor, t: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Flow matching on the diagonal.

        L = | u_{t,t}(a_t) - v |^2,   v = a_1 - a_0

    Args:
        velocity: u, see ``VelocityFn``.
        noise: a_0, shape (B, A).
        actions: a_1, shape (B, A).
        t: Flow time in [0, 1], shape (B, 1).
        weight: 0 on padded numbers, shape (B, A), or None.
    Returns:
        Scalar loss.
    Source: Eq. 3.
    """
    a_t = interpolate(noise, actions, t)
    return masked_mse(velocity(a_t, t, t), actions - noise, weight)


def eulerian_loss(
    velocity: VelocityFn,
    noise: Tensor,
    actions: Tensor,
    r: Tensor,
    t: Tensor,
    weight: Tensor | None = None,
    *,
    gamma: Tensor | None = None,
    student: Student = "jump",
) -> Tensor:
    """Eulerian self-distillation (ESD), the mean-flow loss.

        (u, du) = jvp of (r, t, a) -> u_{r,t}(a) at (r, t, a_r) along (1, 0, v)
        L = | u - sg(v + (t - r) du) |^2

    The primal output of the JVP is the student, so the network runs once.

    Args:
        velocity: u, see ``VelocityFn``.
        noise: a_0, shape (B, A).
        actions: a_1, shape (B, A).
        r: Start time in [0, 1], shape (B, 1).
        t: End time in [r, 1], shape (B, 1).
        weight: 0 on padded numbers, shape (B, A), or None.
        gamma: Not used; the three losses share one signature.
        student: Not used; there is only one side that can carry the gradient.
    Returns:
        Scalar loss.
    Source: Eq. 5 with v the conditional velocity, Appendix A.2.
    """
    a_r = interpolate(noise, actions, r)
    v = actions - noise
    student_u, du = cast(
        tuple[Tensor, Tensor],
        jvp(lambda r_, a_: velocity(a_, r_, t), (r, a_r), (torch.ones_like(r), v)),
    )
    target = (v + (t - r) * du).detach()
    return masked_mse(student_u, target, weight)


def lagrangian_loss(
    velocity: VelocityFn,
    noise: Tensor,
    actions: Tensor,
    r: Tensor,
    t: Tensor,
    weight: Tensor | None = None,
    *,
    gamma: Tensor | None = None,
    student: Student = "jump",
) -> Tensor:
    """Lagrangian self-distillation (LSD).

        (X, dX/dt) = jvp of t -> X_{r,t}(a_r) along 1
        L = | dX/dt - sg(u_{t,t}(X)) |^2                    student = "jump"
        L = | sg(dX/dt) - u_{t,t}(sg(X)) |^2                student = "composition"

    Args:
        velocity: u, see ``VelocityFn``.
        noise: a_0, shape (B, A).
        actions: a_1, shape (B, A).
        r: Start time in [0, 1], shape (B, 1).
        t: End time in [r, 1], shape (B, 1).
        weight: 0 on padded numbers, shape (B, A), or None.
        gamma: Not used; the three losses share one signature.
        student: Which side carries the gradient.
    Returns:
        Scalar loss.
    Source: Eq. 4; Boffi et al. 2025 for the student.
    """
    a_r = interpolate(noise, actions, r)
    end, d_end = cast(
        tuple[Tensor, Tensor],
        jvp(lambda t_: jump(velocity, a_r, r, t_), (t,), (torch.ones_like(t),)),
    )
    end = end.detach()
    if student == "jump":
        with torch.no_grad():
            tangent = velocity(end, t, t)
        return masked_mse(d_end, tangent, weight)
    return masked_mse(velocity(end, t, t), d_end.detach(), weight)


def progressive_loss(
    velocity: VelocityFn,
    noise: Tensor,
    actions: Tensor,
    r: Tensor,
    t: Tensor,
    weight: Tensor | None = None,
    *,
    gamma: Tensor | None = None,
    student: Student = "jump",
) -> Tensor:
    """Progressive self-distillation (PSD): one jump equals two.

        w = (1 - g) r + g t,   g ~ U[0, 1]
        two = g u_{r,w}(a_r) + (1 - g) u_{w,t}(X_{r,w}(a_r))
        L = | u_{r,t}(a_r) - sg(two) |^2                    student = "jump"
        L = | sg(u_{r,t}(a_r)) - two |^2                    student = "composition"

    Args:
        velocity: u, see ``VelocityFn``.
        noise: a_0, shape (B, A).
        actions: a_1, shape (B, A).
        r: Start time in [0, 1], shape (B, 1).
        t: End time in [r, 1], shape (B, 1).
        weight: 0 on padded numbers, shape (B, A), or None.
        gamma: g, where the jump is split, in [0, 1], shape (B, 1).
        student: Which side carries the gradient.
    Returns:
        Scalar loss.
    Raises:
        ValueError: If ``gamma`` is missing.
    Source: Eq. 6 in velocity form.
    """
    if gamma is None:
        raise ValueError("progressive_loss needs gamma, the split of the jump, of shape (B, 1).")
    a_r = interpolate(noise, actions, r)
    w = torch.lerp(r, t, gamma)

    def two_jumps() -> Tensor:
        first = velocity(a_r, r, w)
        middle = a_r + (w - r) * first
        return gamma * first + (1.0 - gamma) * velocity(middle, w, t)

    if student == "jump":
        with torch.no_grad():
            two = two_jumps()
        return masked_mse(velocity(a_r, r, t), two, weight)
    with torch.no_grad():
        one = velocity(a_r, r, t)
    return masked_mse(two_jumps(), one, weight)


SELF_DISTILLATION_LOSSES: dict[str, Callable[..., Tensor]] = {
    "esd": eulerian_loss,
    "lsd": lagrangian_loss,
    "psd": progressive_loss,
}
"""The values of the ``distillation`` config key."""
