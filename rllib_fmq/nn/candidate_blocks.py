"""Many candidates through the networks: first layers split, weights prepared, rows in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rllib_fmq.nn.activations import gelu, linear_gelu, pack
from rllib_fmq.nn.compilation import maybe_compiled
from rllib_fmq.nn.critic_ensemble import LAYER_NORM_EPS
from rllib_fmq.nn.network_views import Critic, NetworkViews

BLOCK_ROWS = 4096
"""Candidates that go through a network at a time: their activations then stay in the cache."""


class Member(NamedTuple):
    """One critic, each normalisation folded into the layer after it (see ``Blocks``)."""

    first_obs: Tensor
    """What the observations contribute to the first layer, bias included, shape (N, width)."""
    first_weight: Tensor
    """What actions contribute, shape (width, A)."""
    weights: list[Tensor]
    """Of the later layers."""
    biases: list[Tensor]


class Blocks:
    """Velocities and critic values of C candidates of each of N observations.

    An observation's part of a first layer is computed once for its candidates. The critics'
    normalisation is folded into the next layer, so that only the row's scale is left to apply:

        W (s * (g - mean(g)) / std(g) + c) + b
            = (W diag(s) C) g / std(g) + (W c + b),   C = I - 1 1^T / n

    Weights are packed once for all blocks where oneDNN multiplies (not in compiled code).

    Args:
        networks: Their parameters must not change while this object is in use.
        obs: Shape (N, o).
        compiled: Whether to compile what is done to a block.
    Source: ours.
    """

    def __init__(self, networks: NetworkViews, obs: Tensor, *, compiled: bool) -> None:
        self._networks = networks
        self._obs = obs
        self._compiled = compiled
        self._velocity_block = maybe_compiled(velocity_block, compiled)
        self._value_block = maybe_compiled(value_block, compiled)
        self._actor_weights: list[Tensor] | None = None
        self._members: list[Member] | None = None

    def velocity(self, a: Tensor, bias: Tensor) -> Tensor:
        """Evaluate u.

        Args:
            a: Shape (N, C, A).
            bias: First bias with the flow times' part, shape (width,).
        Returns:
            Shape (N, C, A).
        """
        networks = self._networks
        if self._actor_weights is None:
            self._actor_weights = self._packed([w for w, _ in networks.actor_layers])
        biases = [b for _, b in networks.actor_layers]
        obs_dim = networks.obs_dim
        from_obs = torch.addmm(bias, self._obs, networks.first_weight[:, :obs_dim].t())
        weight = networks.first_weight[:, obs_dim:]
        return torch.cat(
            [
                self._velocity_block(o, x, weight, self._actor_weights, biases, networks.actor_gelu)
                for o, x in self._split(from_obs, a)
            ]
        )

    def values(self, a: Tensor) -> Tensor:
        """Value of every member.

        Args:
            a: Shape (N, C, A).
        Returns:
            Shape (n, N C).
        """
        if self._members is None:
            self._members = [self._fold(critic) for critic in self._networks.critics]
        form = self._networks.critic_gelu
        return torch.stack(
            [
                torch.cat(
                    [
                        self._value_block(o, x, m.first_weight, m.weights, m.biases, form)
                        for o, x in self._split(m.first_obs, a)
                    ]
                )
                for m in self._members
            ]
        )

    def _split(self, from_obs: Tensor, a: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        step = max(1, BLOCK_ROWS // a.shape[1])
        return zip(torch.split(from_obs, step), torch.split(a, step), strict=True)

    def _packed(self, weights: list[Tensor]) -> list[Tensor]:
        """The last one is too small to gain."""
        if self._compiled:
            return weights
        return [*(pack(weight, BLOCK_ROWS) for weight in weights[:-1]), weights[-1]]

    def _fold(self, critic: Critic) -> Member:
        obs_dim = self._networks.obs_dim
        first = critic.hidden[0]
        from_obs = torch.addmm(first.bias, self._obs, first.weight[:, :obs_dim].t())
        later = [(layer.weight, layer.bias) for layer in critic.hidden[1:]]
        later.append((critic.head_weight, critic.head_bias))
        weights, biases = [], []
        for (weight, bias), before in zip(later, critic.hidden, strict=True):
            scaled = weight * before.scale
            scaled -= scaled.mean(dim=1, keepdim=True)
            weights.append(scaled)
            biases.append(torch.addmv(bias, weight, before.shift))
        return Member(from_obs, first.weight[:, obs_dim:], self._packed(weights), biases)


def velocity_block(
    from_obs: Tensor,
    a: Tensor,
    weight: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    form: str,
) -> Tensor:
    """An actor's layers after the observations' part of the first; (m, C, A) -> (m, C, A)."""
    x = _first(from_obs, a, weight, form)
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        x = linear_gelu(x, w, b, form)
    return F.linear(x, weights[-1], biases[-1]).view(a.shape)


def value_block(
    from_obs: Tensor,
    a: Tensor,
    weight: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    form: str,
) -> Tensor:
    """A folded critic's layers after the observations' part of the first; (m, C, A) -> (m C,)."""
    x = _first(from_obs, a, weight, form)
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        if torch.compiler.is_compiling():
            # The scale joins the next pass over the numbers instead of making one of its own.
            x = gelu(torch.addcmul(b, _inverse_std(x), x @ w.t()), form)
        else:
            x = linear_gelu(x.mul_(_inverse_std(x)), w, b, form)
    return torch.addcmul(biases[-1], _inverse_std(x), x @ weights[-1].t()).squeeze(-1)


def _first(from_obs: Tensor, a: Tensor, weight: Tensor, form: str) -> Tensor:
    """GELU of the first layer, shape (m C, width)."""
    x = (a.flatten(0, 1) @ weight.t()).view(*a.shape[:2], -1)
    if torch.compiler.is_compiling():
        return gelu(x + from_obs.unsqueeze(1), form).flatten(0, 1)
    return gelu(x.add_(from_obs.unsqueeze(1)), form).flatten(0, 1)


def _inverse_std(x: Tensor) -> Tensor:
    """1 / sqrt(var + eps) of each row, var = mean(x^2) - mean(x)^2."""
    mean = x.mean(dim=-1, keepdim=True)
    if torch.compiler.is_compiling():
        square = (x * x).mean(dim=-1, keepdim=True)
    else:
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
    return torch.rsqrt((square - mean * mean).clamp(min=0.0) + LAYER_NORM_EPS)
