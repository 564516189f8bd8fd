"""The networks as selectors see them: many candidates of few observations, without gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_fmq.flow.bound_policy import GradientAt
from rllib_fmq.flow.critic import Aggregation, aggregate
from rllib_fmq.nn.activations import can_fuse
from rllib_fmq.nn.candidate_blocks import Blocks
from rllib_fmq.nn.critic_ensemble import CriticEnsemble
from rllib_fmq.nn.critic_gradient import action_gradient, values_with_tape
from rllib_fmq.nn.time_features import sinusoidal_features
from rllib_fmq.nn.velocity_field import VelocityField

MANY_ROWS = 2048
"""Candidates from which packing the weights for them pays."""
MANY_ROWS_COMPILED = 128
"""Candidates from which calling compiled code pays."""


class NetworkPolicy:
    """``BoundPolicy`` of a velocity field and a critic ensemble.

    Flow times are the same for all candidates, so their features become a part of the first
    bias. Many candidates go through the networks in blocks, see ``Blocks``.

    Call it under ``no_grad``.

    Args:
        actor: Its parameters must not change while this object is in use.
        critics: The same.
        obs: Shape (N, o).
        how: Aggregation of the ensemble to one score.
        compiled: Whether to run many candidates through compiled code.
    Source: ours.
    """

    def __init__(
        self,
        actor: VelocityField,
        critics: CriticEnsemble,
        obs: Tensor,
        how: Aggregation,
        *,
        compiled: bool = False,
    ) -> None:
        self.num_obs = obs.shape[0]
        self._actor = actor
        self._critics = critics
        self._obs = obs
        self._how = how
        self._compiled = compiled
        self._blocks: Blocks | None = None

    def velocity(self, a: Tensor, r: float, t: float) -> Tensor:
        """See ``BoundPolicy``."""
        obs_dim = self._obs.shape[1]
        size = obs_dim + a.shape[2]
        first = self._actor.linears[0]
        # [F(r), F(t)], and zeros for a conditioning that is not given.
        times = self._time_part(r, t, first.in_features - size)
        bias = torch.addmv(first.bias, first.weight[:, size:], times)
        if self._many(a):
            return self._prepared().velocity(a, bias)
        x = self._inputs(a) @ first.weight[:, :size].t() + bias
        return self._actor.after_first(x).view(a.shape)

    def score(self, a: Tensor) -> Tensor:
        """See ``BoundPolicy``."""
        many = self._many(a)
        q = self._prepared().values(a) if many else self._critics.values(self._inputs(a))
        return aggregate(q, self._how).view(a.shape[:2])

    def score_for_step(self, a: Tensor) -> tuple[Tensor, GradientAt]:
        """See ``BoundPolicy``; the gradient goes back through the pass that scored."""
        num, count, _ = a.shape
        q, tape = values_with_tape(self._critics, self._inputs(a))
        obs_dim = self._obs.shape[1]

        def gradient(index: Tensor) -> Tensor:
            rows = index + count * torch.arange(num, device=index.device).unsqueeze(1)
            flat = rows.flatten()
            kept = q[:, flat]
            if self._how == "min":
                cotangent = (kept == kept.amin(dim=0)).to(kept.dtype)
                cotangent = cotangent / cotangent.sum(dim=0)  # as amin's own gradient at a tie
            else:
                cotangent = torch.full_like(kept, 1.0 / kept.shape[0])
            out = action_gradient(self._critics, tape.rows(flat), cotangent, obs_dim)
            return out.view(*index.shape, -1)

        return aggregate(q, self._how).view(num, count), gradient

    def _inputs(self, a: Tensor) -> Tensor:
        """[s, a] of every candidate, shape (N C, o + A)."""
        num, count, _ = a.shape
        obs = self._obs.unsqueeze(1).expand(num, count, -1)
        return torch.cat([obs, a], dim=-1).flatten(0, 1)

    def _time_part(self, r: float, t: float, size: int) -> Tensor:
        freqs = self._actor.freqs
        times = freqs.new_tensor([[r], [t]])
        features = sinusoidal_features(times, freqs).flatten()
        missing = size - features.numel()
        if missing:  # t_c = 0 has the features cos(0) = 1 and sin(0) = 0; a_c = 0
            rest = features.new_zeros(missing)
            rest[: freqs.numel()] = 1.0
            features = torch.cat([features, rest])
        return features

    def _many(self, a: Tensor) -> bool:
        rows = a.shape[0] * a.shape[1]
        if self._compiled:
            return rows >= MANY_ROWS_COMPILED
        return rows >= MANY_ROWS and can_fuse(a)

    def _prepared(self) -> Blocks:
        if self._blocks is None:
            self._blocks = Blocks(self._actor, self._critics, self._obs, compiled=self._compiled)
        return self._blocks
