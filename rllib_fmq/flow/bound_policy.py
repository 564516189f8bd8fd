"""What a selector needs of a policy: velocities and critic values of candidates side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from rllib_fmq.flow.guidance import q_gradient

PolicyVelocity: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""``velocity(obs, a, r, t) -> u_{r,t}(a | obs)``, shapes (B, o), (B, A), (B, 1), (B, 1)."""

Score: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``score(obs, a) -> q``: one critic value a row, shapes (B, o), (B, A) -> (B,)."""

GradientAt: TypeAlias = Callable[[Tensor], Tensor]
"""``gradient(index) -> dq/da`` at some of the scored candidates, shapes (N, M) -> (N, M, A)."""


class BoundPolicy(Protocol):
    """Policy and critics at N observations, each with C candidate chunks side by side.

    Flow times are numbers, since all candidates of a selector share them.
    """

    num_obs: int
    """N."""

    def velocity(self, a: Tensor, r: float, t: float) -> Tensor:
        """u_{r,t}(a), shapes (N, C, A) -> (N, C, A)."""

    def score(self, a: Tensor) -> Tensor:
        """One critic value a candidate, shapes (N, C, A) -> (N, C)."""

    def score_for_step(self, a: Tensor) -> tuple[Tensor, GradientAt]:
        """Scores as above, and the gradient that a step on some of the candidates needs."""


class TiledPolicy:
    """``BoundPolicy`` of any two functions: each observation is repeated for its candidates.

    Args:
        velocity: u, see ``PolicyVelocity``.
        score: Critic value, see ``Score``; None where no selector asks for it.
        obs: Shape (N, o).
    Source: ours.
    """

    def __init__(self, velocity: PolicyVelocity, score: Score | None, obs: Tensor) -> None:
        self.num_obs = obs.shape[0]
        self._velocity = velocity
        self._score = score
        self._obs = obs

    def velocity(self, a: Tensor, r: float, t: float) -> Tensor:
        """See ``BoundPolicy``."""
        start = torch.full((a.shape[0] * a.shape[1], 1), r, device=a.device, dtype=a.dtype)
        end = torch.full_like(start, t)
        return self._velocity(self._tiled(a), a.flatten(0, 1), start, end).view_as(a)

    def score(self, a: Tensor) -> Tensor:
        """See ``BoundPolicy``."""
        if self._score is None:
            raise ValueError("this policy was bound without a critic.")
        return self._score(self._tiled(a), a.flatten(0, 1)).view(a.shape[:2])

    def score_for_step(self, a: Tensor) -> tuple[Tensor, GradientAt]:
        """See ``BoundPolicy``; the gradient evaluates the critic anew."""

        def gradient(index: Tensor) -> Tensor:
            kept = take(a, index)

            def value(actions: Tensor) -> tuple[Tensor, Tensor]:
                q = self.score(actions).flatten()
                return q, q

            return q_gradient(value, kept)[1]

        return self.score(a), gradient

    def _tiled(self, a: Tensor) -> Tensor:
        return self._obs.repeat_interleave(a.shape[1], dim=0)


def take(candidates: Tensor, index: Tensor) -> Tensor:
    """Candidates by number.

    Args:
        candidates: Shape (N, C, A).
        index: Shape (N, M), int64.
    Returns:
        Shape (N, M, A).
    Source: ours.
    """
    return candidates.gather(1, index[..., None].expand(-1, -1, candidates.shape[-1]))
