"""The random numbers of an update, drawn before anything is computed with them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rllib_fmq import flow


class DiagonalDraw(NamedTuple):
    """Of Eq. 3."""

    noise: Tensor
    """a_0, shape (B, A)."""
    t: Tensor
    """Shape (B, 1)."""


class PairDraw(NamedTuple):
    """Of Eq. 4 to 6."""

    noise: Tensor
    """a_0, shape (B, A)."""
    r: Tensor
    """Shape (B, 1)."""
    t: Tensor
    """At least r, shape (B, 1)."""
    split: Tensor
    """gamma of Eq. 6, shape (B, 1)."""


class ImitationDraws(NamedTuple):
    """Noise and flow times of the offline losses; None where a term is off."""

    diagonal: DiagonalDraw | None
    pair: PairDraw | None
    t_c: Tensor | None
    """Time of MVP's conditioning axis, 0 where it tells nothing, shape (B, 1)."""
    condition_noise: Tensor | None
    """Noise of its action, shape (B, A)."""


def draw_imitation(
    actions: Tensor,
    generator: torch.Generator | None,
    *,
    diagonal: bool,
    interval_factor: float,
    condition: bool = False,
    zero_prob: float = 0.0,
) -> ImitationDraws:
    """Draw for the offline losses.

    Args:
        actions: Chunks to imitate, shape (B, A); gives size, device and type.
        generator: On their device.
        diagonal: Whether the diagonal loss is on.
        interval_factor: p of the time curriculum; 0: self-distillation is off.
        condition: Whether MVP's conditioning axis is trained.
        zero_prob: P(t_c = 0).
    Returns:
        The numbers; r and t are already shrunk by p.
    Source: Eq. 3 to 6, Appendix H.
    """
    num = actions.shape[0]

    def uniform(columns: int = 1) -> Tensor:
        return torch.rand(
            num, columns, generator=generator, device=actions.device, dtype=actions.dtype
        )

    def noise() -> Tensor:
        return torch.randn(
            actions.shape, generator=generator, device=actions.device, dtype=actions.dtype
        )

    t_c: Tensor | None = None
    condition_noise: Tensor | None = None
    if condition:
        # App. H: t_c = 0 (no information) with the stated probability, else U[0, 1].
        t_c = uniform()
        t_c = torch.where(uniform() < zero_prob, torch.zeros_like(t_c), t_c)
        condition_noise = noise()
    on_diagonal = DiagonalDraw(noise(), uniform()) if diagonal else None
    pair: PairDraw | None = None
    if interval_factor > 0.0:
        r, t = flow.time_pair(uniform(2), interval_factor)
        pair = PairDraw(noise(), r, t, uniform())
    return ImitationDraws(on_diagonal, pair, t_c, condition_noise)


def draw_interpolant(actions: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Draw r and a_0 of Q-guidance.

    Args:
        actions: Shape (B, A).
        generator: On their device.
    Returns:
        r ~ U[0, 1) of shape (B, 1), and noise (B, A).
    Source: Alg. 1, line 5.
    """
    num = actions.shape[0]
    r = torch.rand(num, 1, generator=generator, device=actions.device, dtype=actions.dtype)
    noise = torch.randn(
        actions.shape, generator=generator, device=actions.device, dtype=actions.dtype
    )
    return r, noise
