"""The actor: an MLP for the average velocity u_{r,t}(a | s)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rllib_fmq.nn.activations import GELU, gelu_tangent
from rllib_fmq.nn.activations import gelu as apply_gelu
from rllib_fmq.nn.initialisation import variance_scaling_
from rllib_fmq.nn.time_features import frequencies, sinusoidal_features


class VelocityField(nn.Module):
    """Average velocity of the flow map.

        u_{r,t}(a_r | s) = MLP([s, a_r, F(r), F(t)])

    With ``conditioning`` the input also holds ``[F(t_c), a_c]``, MVP's extra axis.

    Args:
        obs_dim: Size of s.
        action_size: H * d, size of a flattened chunk.
        hidden_sizes: Widths of the hidden layers (paper: 4 x 512), a GELU after each.
        time_embedding_dim: Features of each time axis (paper: 64).
        conditioning: Whether to take (t_c, a_c).
        gelu: "tanh" (the paper's form) or "none" (exact), as torch names them.
    Source: Table 6, Appendix H.
    """

    freqs: Tensor

    def __init__(
        self,
        obs_dim: int,
        action_size: int,
        hidden_sizes: Sequence[int] = (512, 512, 512, 512),
        time_embedding_dim: int = 64,
        conditioning: bool = False,
        gelu: str = "tanh",
    ) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.gelu = gelu
        self.register_buffer("freqs", frequencies(time_embedding_dim), persistent=False)
        size = obs_dim + action_size + 2 * time_embedding_dim
        if conditioning:
            size += time_embedding_dim + action_size
        layers: list[nn.Module] = []
        for width in hidden_sizes:
            layers += [_linear(size, width), GELU(gelu)]
            size = width
        self.mlp = nn.Sequential(*layers, _linear(size, action_size))

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers, first to last."""
        return [layer for layer in self.mlp if isinstance(layer, nn.Linear)]

    def after_first(self, x: Tensor) -> Tensor:
        """What follows the first linear layer, given that layer's output, shape (B, width)."""
        out: Tensor = self.mlp[1:](x)
        return out

    def forward(
        self,
        obs: Tensor,
        a_r: Tensor,
        r: Tensor,
        t: Tensor,
        condition: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Evaluate u.

        Args:
            obs: Shape (B, o).
            a_r: Shape (B, A).
            r: Start time in [0, 1], shape (B, 1).
            t: End time in [r, 1], shape (B, 1).
            condition: (t_c, a_c) of shapes (B, 1), (B, A); None stands for t_c = 0, a_c = 0.
        Returns:
            Average velocity, shape (B, A), action units per unit of flow time.
        """
        out: Tensor = self.mlp(self._inputs(obs, a_r, r, t, condition))
        return out

    def with_tangent(
        self,
        obs: Tensor,
        a_r: Tensor,
        r: Tensor,
        t: Tensor,
        velocity: Tensor,
        condition: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Evaluate u, and for the last B' rows its derivative along (1, 0, v), in one pass.

            du = d/dr u + (du/da) v

        The derivative is carried forward beside the network's own activations; it has no
        gradient itself.

        Args:
            obs: Shape (B, o).
            a_r: Shape (B, A).
            r: Shape (B, 1).
            t: Shape (B, 1).
            velocity: v, shape (B', A) with B' <= B.
            condition: See ``forward``.
        Returns:
            u of shape (B, A), and du of shape (B', A), detached.
        Source: the forward-mode derivative of Eq. 5.
        """
        rows, start = velocity.shape[0], a_r.shape[0] - velocity.shape[0]
        first = self.linears[0]
        after_obs = obs.shape[1]
        after_action = after_obs + a_r.shape[1]
        after_r = after_action + 2 * self.freqs.numel()
        x = self._inputs(obs, a_r, r, t, condition)
        with torch.no_grad():
            angle = r[start:] * self.freqs
            features = torch.cat([-self.freqs * angle.sin(), self.freqs * angle.cos()], dim=-1)
            tangent = torch.cat([velocity, features], dim=-1)
            du = tangent @ first.weight[:, after_obs:after_r].t()
        for k, layer in enumerate(self.linears[:-1]):
            before = layer(x)
            x = apply_gelu(before, self.gelu)
            with torch.no_grad():
                if k:
                    du = du @ layer.weight.t()
                du = gelu_tangent(before[start:].detach(), du, self.gelu)
        last = self.linears[-1]
        with torch.no_grad():
            du = du @ last.weight.t()
        return last(x), du.view(rows, -1)

    def _inputs(
        self,
        obs: Tensor,
        a_r: Tensor,
        r: Tensor,
        t: Tensor,
        condition: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        parts = [
            obs,
            a_r,
            sinusoidal_features(r, self.freqs),
            sinusoidal_features(t, self.freqs),
        ]
        if self.conditioning:
            t_c, a_c = condition or (torch.zeros_like(r), torch.zeros_like(a_r))
            parts += [sinusoidal_features(t_c, self.freqs), a_c]
        return torch.cat(parts, dim=-1)


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    variance_scaling_(layer.weight, fan_in, fan_out)
    nn.init.zeros_(layer.bias)
    return layer
