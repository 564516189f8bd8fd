"""The networks as selectors see them: many candidates of few observations, without gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rllib_fmq.flow.bound_policy import GradientAt
from rllib_fmq.flow.critic import Aggregation, aggregate
from rllib_fmq.nn.activations import can_fuse, gelu
from rllib_fmq.nn.candidate_blocks import Blocks
from rllib_fmq.nn.critic_gradient import Tape, action_gradient, critic_values
from rllib_fmq.nn.network_views import Linear, NetworkViews

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
        networks: Their parameters must not change while this object is in use.
        obs: Shape (N, o).
        how: Aggregation of the ensemble to one score.
        compiled: Whether to run many candidates through compiled code.
    Source: ours.
    """

    def __init__(
        self, networks: NetworkViews, obs: Tensor, how: Aggregation, *, compiled: bool = False
    ) -> None:
        self.num_obs = obs.shape[0]
        self._networks = networks
        self._obs = obs
        self._how = how
        self._compiled = compiled
        self._blocks: Blocks | None = None
        networks.refresh()
        # For one observation a selector has two numbers of rows at most; for many, any number.
        self._linear: Linear = networks.linear if self.num_obs == 1 else F.linear

    def velocity(self, a: Tensor, r: float, t: float) -> Tensor:
        """See ``BoundPolicy``."""
        networks = self._networks
        bias = networks.time_bias(r, t)
        if self._many(a):
            return self._prepared().velocity(a, bias)
        linear, form = self._linear, networks.actor_gelu
        x = linear(self._inputs(a), networks.first_weight, bias)
        for weight, layer_bias in networks.actor_layers:
            x = linear(gelu(x, form), weight, layer_bias)
        return x.view(a.shape)

    def score(self, a: Tensor) -> Tensor:
        """See ``BoundPolicy``."""
        if self._many(a):
            q = self._prepared().values(a)
        else:
            q, _ = self._values(a)
        return aggregate(q, self._how).view(a.shape[:2])

    def score_for_step(self, a: Tensor) -> tuple[Tensor, GradientAt]:
        """See ``BoundPolicy``; the gradient goes back through the pass that scored."""
        num, count, _ = a.shape
        networks = self._networks
        q, tapes = self._values(a)

        def gradient(index: Tensor) -> Tensor:
            rows = index + count * torch.arange(num, device=index.device).unsqueeze(1)
            flat = rows.flatten()
            kept = q[:, flat]
            if self._how == "min":
                cotangent = (kept == kept.amin(dim=0)).to(kept.dtype)
                cotangent = cotangent / cotangent.sum(dim=0)  # as amin's own gradient at a tie
            else:
                cotangent = torch.full_like(kept, 1.0 / kept.shape[0])
            out = a.new_zeros(flat.shape[0], a.shape[2])
            for critic, tape, share in zip(networks.critics, tapes, cotangent, strict=True):
                kept_tape = [saved.rows(flat) for saved in tape]
                out += action_gradient(critic, kept_tape, share, networks.critic_gelu, self._linear)
            return out.view(*index.shape, -1)

        return aggregate(q, self._how).view(num, count), gradient

    def _values(self, a: Tensor) -> tuple[Tensor, list[Tape]]:
        """Value of every member (n, N C), and their tapes."""
        inputs, networks = self._inputs(a), self._networks
        results = [
            critic_values(critic, inputs, networks.critic_gelu, self._linear)
            for critic in networks.critics
        ]
        return torch.stack([q for q, _ in results]), [tape for _, tape in results]

    def _inputs(self, a: Tensor) -> Tensor:
        """[s, a] of every candidate, shape (N C, o + A)."""
        num, count, _ = a.shape
        obs = self._obs.unsqueeze(1).expand(num, count, -1)
        return torch.cat([obs, a], dim=-1).flatten(0, 1)

    def _many(self, a: Tensor) -> bool:
        rows = a.shape[0] * a.shape[1]
        if self._compiled:
            return rows >= MANY_ROWS_COMPILED
        return rows >= MANY_ROWS and can_fuse(a)

    def _prepared(self) -> Blocks:
        if self._blocks is None:
            self._blocks = Blocks(self._networks, self._obs, compiled=self._compiled)
        return self._blocks
