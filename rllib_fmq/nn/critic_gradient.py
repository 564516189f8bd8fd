"""The critics' gradient with respect to actions, backwards by hand through the pass that scored."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from rllib_fmq.nn.activations import gelu, gelu_tangent
from rllib_fmq.nn.critic_ensemble import LAYER_NORM_EPS
from rllib_fmq.nn.network_views import Critic, Linear


class Saved(NamedTuple):
    """What the backward pass needs of one hidden layer."""

    before: Tensor
    """Input of the GELU, shape (B, width)."""
    active: Tensor
    """Its output, which is normalised next, shape (B, width)."""
    mean: Tensor
    """Of the rows of ``active``, shape (B, 1)."""
    inverse_std: Tensor
    """Shape (B, 1)."""

    def rows(self, index: Tensor) -> Saved:
        """The same of some rows, ``index`` of shape (M,)."""
        return Saved(*(x.index_select(0, index) for x in self))


Tape: TypeAlias = list[Saved]


def critic_values(
    critic: Critic, inputs: Tensor, gelu_form: str, linear: Linear = F.linear
) -> tuple[Tensor, Tape]:
    """Value of one critic, without a gradient, and what ``action_gradient`` needs.

    Args:
        critic: From ``NetworkViews``.
        inputs: [s, a], shape (B, o + A).
        gelu_form: "tanh" or "none".
        linear: What multiplies.
    Returns:
        Values of shape (B,), and the tape.
    Source: Table 6.
    """
    x, tape = inputs, []
    for layer in critic.hidden:
        before = linear(x, layer.weight, layer.bias)
        active = gelu(before, gelu_form)
        x, mean, inverse_std = torch.native_layer_norm(
            active, active.shape[-1:], layer.scale, layer.shift, LAYER_NORM_EPS
        )
        tape.append(Saved(before, active, mean, inverse_std))
    return linear(x, critic.head_weight, critic.head_bias).squeeze(-1), tape


def action_gradient(
    critic: Critic,
    tape: Tape,
    cotangent: Tensor,
    gelu_form: str,
    linear: Linear = F.linear,
) -> Tensor:
    """Vector-Jacobian product of one critic with respect to the actions.

        d/da sum_b c_b Q(s_b, a_b)

    Args:
        critic: From ``NetworkViews``.
        tape: From ``critic_values``, of the rows that are wanted.
        cotangent: c, shape (B,).
        gelu_form: "tanh" or "none".
        linear: What multiplies.
    Returns:
        Shape (B, A).
    Source: chain rule; used by Eq. 12 and Alg. 2, line 9.
    """
    flow = cotangent.unsqueeze(-1) * critic.head_weight
    for layer, saved in zip(reversed(critic.hidden), reversed(tape), strict=True):
        flow, _, _ = torch.ops.aten.native_layer_norm_backward(
            flow,
            saved.active,
            saved.active.shape[-1:],
            saved.mean,
            saved.inverse_std,
            layer.scale,
            layer.shift,
            (True, False, False),
        )
        flow = gelu_tangent(saved.before, flow, gelu_form)
        flow = linear(flow, layer.backward_weight, None)
    return flow
