"""Many candidates through the networks: first layers split, weights prepared, rows in blocks."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rllib_fmq.nn.activations import gelu, linear_gelu, pack
from rllib_fmq.nn.compilation import maybe_compiled
from rllib_fmq.nn.critic_ensemble import LAYER_NORM_EPS, CriticEnsemble
from rllib_fmq.nn.velocity_field import VelocityField

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
        actor: Its parameters must not change while this object is in use.
        critics: The same.
        obs: Shape (N, o).
        compiled: Whether to compile what is done to a block.
    Source: ours.
    """

    def __init__(
        self, actor: VelocityField, critics: CriticEnsemble, obs: Tensor, *, compiled: bool
    ) -> None:
        self._actor = actor
        self._critics = critics
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
        first, *linears = self._actor.linears
        obs_dim = self._obs.shape[1]
        if self._actor_weights is None:
            self._actor_weights = [
                *(self._packed(x.weight) for x in linears[:-1]),
                linears[-1].weight,
            ]
        from_obs = torch.addmm(bias, self._obs, first.weight[:, :obs_dim].t())
        weight = first.weight[:, obs_dim : obs_dim + a.shape[2]]
        biases = [x.bias for x in linears]
        step = max(1, BLOCK_ROWS // a.shape[1])
        return torch.cat(
            [
                self._velocity_block(o, x, weight, self._actor_weights, biases, self._actor.gelu)
                for o, x in zip(from_obs.split(step), a.split(step), strict=True)
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
            self._members = [self._fold(j) for j in range(self._critics.num_critics)]
        step = max(1, BLOCK_ROWS // a.shape[1])
        members = []
        for member in self._members:
            blocks = zip(member.first_obs.split(step), a.split(step), strict=True)
            members.append(
                torch.cat(
                    [
                        self._value_block(
                            o,
                            x,
                            member.first_weight,
                            member.weights,
                            member.biases,
                            self._critics.gelu,
                        )
                        for o, x in blocks
                    ]
                )
            )
        return torch.stack(members)

    def _packed(self, weight: Tensor) -> Tensor:
        return weight if self._compiled else pack(weight, BLOCK_ROWS)

    def _fold(self, member: int) -> Member:
        critics, obs_dim = self._critics, self._obs.shape[1]
        first = critics.weights[0][member]
        from_obs = torch.addmm(critics.biases[0][member], self._obs, first[:, :obs_dim].t())
        weights, biases = [], []
        for k in range(1, len(critics.weights)):
            weight = critics.weights[k][member]
            scaled = weight * critics.scales[k - 1][member]
            scaled -= scaled.mean(dim=1, keepdim=True)
            last = k == len(critics.weights) - 1
            weights.append(scaled if last else self._packed(scaled))
            shift = critics.shifts[k - 1][member, 0]
            biases.append(torch.addmv(critics.biases[k][member, 0], weight, shift))
        return Member(from_obs, first[:, obs_dim:], weights, biases)


def velocity_block(
    from_obs: Tensor,
    a: Tensor,
    weight: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
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
    weights: list[Tensor],
    biases: list[Tensor],
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
