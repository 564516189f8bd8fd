"""The critics: an ensemble of Q networks evaluated as one stacked network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
            kernel = torch.empty(num_critics, fan_in, fan_out)
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
        x = torch.cat([obs, actions], dim=-1).expand(self.num_critics, -1, -1)
        for weight, bias, scale, shift in zip(
            self.weights, self.biases, self.scales, self.shifts, strict=False
        ):
            x = F.gelu(torch.baddbmm(bias, x, weight), approximate=self.gelu)
            x = F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS)
            x = torch.addcmul(shift, x, scale)
        return torch.baddbmm(self.biases[-1], x, self.weights[-1]).squeeze(-1)
