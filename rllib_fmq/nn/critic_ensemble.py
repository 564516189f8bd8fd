"""The critics: an ensemble of Q networks evaluated as one stacked network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rllib_fmq.nn.activations import gelu as apply_gelu
from rllib_fmq.nn.initialisation import variance_scaling_

LAYER_NORM_EPS = 1e-6


class CriticEnsemble(nn.Module):
    """Q_1 ... Q_n of an observation and an action chunk.

        Q_j(s, a) = MLP_j([s, a]),   GELU then LayerNorm after each hidden layer

    The members' kernels are stacked, so that one batched product serves them all.

    Args:
        obs_dim: Size of s.
        action_size: H * d.
        hidden_sizes: Widths of the hidden layers (paper: 4 x 512).
        num_critics: n (paper: 2).
        gelu: "tanh" (the paper's form) or "none" (exact), as torch names them.
    Source: Table 6; eps from SPEC section 5.
    """

    def __init__(
        self,
        obs_dim: int,
        action_size: int,
        hidden_sizes: Sequence[int] = (512, 512, 512, 512),
        num_critics: int = 2,
        gelu: str = "tanh",
    ) -> None:
        super().__init__()
        self.num_critics = num_critics
        self.gelu = gelu
        sizes = [obs_dim + action_size, *hidden_sizes, 1]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.scales = nn.ParameterList()
        self.shifts = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            kernel = torch.empty(num_critics, fan_out, fan_in)
            self.weights.append(nn.Parameter(variance_scaling_(kernel, fan_in, fan_out)))
            self.biases.append(nn.Parameter(torch.zeros(num_critics, 1, fan_out)))
        for width in hidden_sizes:
            self.scales.append(nn.Parameter(torch.ones(num_critics, 1, width)))
            self.shifts.append(nn.Parameter(torch.zeros(num_critics, 1, width)))

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Value of every member.

        Args:
            obs: Shape (B, o).
            actions: Flattened chunks in [-1, 1], shape (B, A).
        Returns:
            Shape (n, B).
        """
        return self.values(torch.cat([obs, actions], dim=-1))

    def values(self, inputs: Tensor) -> Tensor:
        """Value of every member.

        Args:
            inputs: [s, a], shape (B, o + A).
        Returns:
            Shape (n, B).
        """
        x = inputs.expand(self.num_critics, -1, -1)
        for weight, bias, scale, shift in self.hidden_layers():
            x = apply_gelu(stacked_linear(x, weight, bias), self.gelu)
            x = F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS)
            x = torch.addcmul(shift, x, scale)
        return stacked_linear(x, self.weights[-1], self.biases[-1]).squeeze(-1)

    def hidden_layers(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Weight (n, out, in), bias, scale and shift (n, 1, out) of each hidden layer."""
        return zip(self.weights, self.biases, self.scales, self.shifts, strict=False)


def stacked_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Linear layers of all members at once.

        y_j = x_j W_j^T + b_j

    The weight's gradient comes out in the weight's own layout. Autograd's, for a product with a
    transposed matrix, would be copied into it in every update.

    Args:
        x: Shape (n, B, in).
        weight: W, shape (n, out, in).
        bias: Shape (n, 1, out).
    Returns:
        Shape (n, B, out).
    Source: ours.
    """
    if not torch.is_grad_enabled():
        return torch.baddbmm(bias, x, weight.mT)
    out: Tensor = _StackedLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


class _StackedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        if torch.compiler.is_compiling():
            return torch.bmm(x, weight.mT) + bias  # the sum joins the activation's pass
        return torch.baddbmm(bias, x, weight.mT)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        kind = grad.dtype  # another than the inputs' where forward ran under autocast
        return (
            torch.bmm(grad, weight.to(kind)).to(x.dtype) if for_x else None,
            torch.bmm(grad.mT, x.to(kind)).to(weight.dtype) if for_weight else None,
            grad.sum(dim=1, keepdim=True).to(weight.dtype) if for_bias else None,
        )
