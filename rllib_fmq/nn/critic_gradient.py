"""The critics' gradient with respect to actions, backwards by hand through the pass that scored."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rllib_fmq.nn.activations import gelu, gelu_tangent
from rllib_fmq.nn.critic_ensemble import LAYER_NORM_EPS, CriticEnsemble, stacked_linear


class Tape(NamedTuple):
    """What the backward pass needs of each hidden layer."""

    before: list[Tensor]
    """Inputs of the GELUs, each (n, B, width)."""
    active: list[Tensor]
    """Outputs of the GELUs, which are normalised next, each (n, B, width)."""
    mean: list[Tensor]
    """Of the rows of ``active``, each (n, B, 1)."""
    inverse_std: list[Tensor]
    """Each (n, B, 1)."""

    def rows(self, index: Tensor) -> Tape:
        """The same of some rows, ``index`` of shape (M,)."""
        return Tape(*([x.index_select(1, index) for x in part] for part in self))

    def members(self, count: int) -> Tape:
        """The same of the ensemble's first members."""
        return Tape(*([x[:count] for x in part] for part in self))


def values_with_tape(critics: CriticEnsemble, inputs: Tensor) -> tuple[Tensor, Tape]:
    """Value of every member, keeping what ``action_gradient`` needs.

    Args:
        critics: The ensemble.
        inputs: [s, a], shape (B, o + A).
    Returns:
        Values (n, B), and the tape.
    Source: Table 6.
    """
    x = inputs.expand(critics.num_critics, -1, -1)
    tape = Tape([], [], [], [])
    for weight, bias, scale, shift in critics.hidden_layers():
        before = stacked_linear(x, weight, bias)
        active = gelu(before, critics.gelu)
        normed, mean, inverse_std = torch.native_layer_norm(
            active, active.shape[-1:], None, None, LAYER_NORM_EPS
        )
        for part, value in zip(tape, (before, active, mean, inverse_std), strict=True):
            part.append(value)
        x = torch.addcmul(shift, normed, scale)
    return stacked_linear(x, critics.weights[-1], critics.biases[-1]).squeeze(-1), tape


def action_gradient(critics: CriticEnsemble, tape: Tape, cotangent: Tensor, obs_dim: int) -> Tensor:
    """Vector-Jacobian product of the ensemble with respect to the actions.

        d/da sum_j c_j Q_j(s, a)

    Args:
        critics: The ensemble.
        tape: Of the rows, and of the first m members, that are wanted.
        cotangent: c, shape (m, B).
        obs_dim: Size of s, whose gradient is left out.
    Returns:
        Shape (B, A).
    Source: chain rule; used by Eq. 12 and Alg. 2, line 9.
    """
    count = cotangent.shape[0]
    flow = cotangent.unsqueeze(-1) * critics.weights[-1][:count]
    layers = list(critics.hidden_layers())
    for k in range(len(layers) - 1, -1, -1):
        weight, _, scale, _ = layers[k]
        active = tape.active[k]
        flow, _, _ = torch.ops.aten.native_layer_norm_backward(
            flow * scale[:count],
            active,
            active.shape[-1:],
            tape.mean[k],
            tape.inverse_std[k],
            None,
            None,
            (True, False, False),
        )
        flow = gelu_tangent(tape.before[k], flow, critics.gelu)
        kernel = weight[:count] if k else weight[:count, :, obs_dim:]
        flow = torch.bmm(flow, kernel)
    return flow.sum(dim=0)
