"""The networks' layers as plain tensors, gathered once instead of in every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from rllib_fmq.nn.critic_ensemble import CriticEnsemble
from rllib_fmq.nn.packed_weights import PackedWeights
from rllib_fmq.nn.velocity_field import VelocityField

Linear: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``linear(x, weight, bias)`` as ``torch.nn.functional.linear``."""


class HiddenLayer(NamedTuple):
    """Of one critic; a normalisation with scale and shift follows the GELU."""

    weight: Tensor
    """Shape (out, in)."""
    backward_weight: Tensor
    """Transposed, and of the first layer the actions' part only, shape (in, out)."""
    bias: Tensor
    """Shape (out,)."""
    scale: Tensor
    """Shape (out,)."""
    shift: Tensor
    """Shape (out,)."""


class Critic(NamedTuple):
    """One member of the ensemble."""

    hidden: list[HiddenLayer]
    head_weight: Tensor
    """Shape (1, width)."""
    head_bias: Tensor
    """Shape (1,)."""


class NetworkViews:
    """Views of all parameters that choosing an action reads.

    They stay true while the parameters are written to in place. With ``keep_packed``, weights
    and the flow times' part of the first bias are kept from call to call until then.

    Args:
        actor: u.
        critics: Q_1 ... Q_n.
        obs_dim: Size of s.
        keep_packed: For weights that serve many calls, as where actions are chosen.
    Source: ours.
    """

    def __init__(
        self,
        actor: VelocityField,
        critics: CriticEnsemble,
        obs_dim: int,
        *,
        keep_packed: bool = False,
    ) -> None:
        self.actor_gelu = actor.gelu
        self.critic_gelu = critics.gelu
        self._freqs = actor.freqs
        first, *linears = actor.linears
        size = obs_dim + linears[-1].out_features
        self.obs_dim = obs_dim
        self._memory = _memory_of(actor, critics)
        self.first_bias = first.bias
        self.first_weight = first.weight[:, :size]
        """Of [s, a], shape (width, o + A)."""
        self._time_weight = first.weight[:, size:]
        self.actor_layers = [(layer.weight, layer.bias) for layer in linears]
        """(weight, bias) of the layers after the first."""
        self.critics = critic_views(critics, obs_dim)
        self._packed: PackedWeights | None = None
        self._biases: dict[tuple[float, float], Tensor] = {}
        self.linear: Linear = F.linear
        if keep_packed:
            self._packed = PackedWeights([*actor.parameters(), *critics.parameters()])
            self.linear = self._packed.linear

    def are_of(self, actor: VelocityField, critics: CriticEnsemble) -> bool:
        """Whether these are still views of the networks' memory, which moving them replaces."""
        return self._memory == _memory_of(actor, critics)

    def refresh(self) -> None:
        """Forget what was derived from parameters that were written to since."""
        if self._packed is None or self._packed.refresh():
            self._biases.clear()

    def time_bias(self, r: float, t: float) -> Tensor:
        """First bias of the actor with the part of two flow times.

            b + W [F(r), F(t)], and F(0), 0 for a conditioning axis

        Args:
            r: Start time in [0, 1].
            t: End time in [r, 1].
        Returns:
            Shape (width,).
        """
        bias = self._biases.get((r, t))
        if bias is None:
            freqs = self._freqs
            # Numbers, not a tensor of them, which would have to be copied to the device.
            features = torch.cat(
                [(freqs * r).cos(), (freqs * r).sin(), (freqs * t).cos(), (freqs * t).sin()]
            )
            missing = self._time_weight.shape[1] - features.numel()
            if missing:  # t_c = 0 has the features cos(0) = 1 and sin(0) = 0; a_c = 0
                rest = features.new_zeros(missing)
                rest[: freqs.numel()] = 1.0
                features = torch.cat([features, rest])
            bias = torch.addmv(self.first_bias, self._time_weight, features)
            self._biases[r, t] = bias
        return bias


def _memory_of(actor: VelocityField, critics: CriticEnsemble) -> list[int]:
    first = actor.linears[0].weight
    return [first.data_ptr(), *(weight.data_ptr() for weight in critics.weights)]


def critic_views(critics: CriticEnsemble, obs_dim: int) -> list[Critic]:
    """The ensemble's members one by one.

    Args:
        critics: Q_1 ... Q_n.
        obs_dim: Size of s.
    Returns:
        n critics.
    Source: ours.
    """
    return [_critic(critics, member, obs_dim) for member in range(critics.num_critics)]


def _critic(critics: CriticEnsemble, member: int, obs_dim: int) -> Critic:
    hidden = []
    for k, (weight, bias, scale, shift) in enumerate(critics.hidden_layers()):
        kernel = weight[member] if k else weight[member, :, obs_dim:]
        hidden.append(
            HiddenLayer(
                weight[member], kernel.t(), bias[member, 0], scale[member, 0], shift[member, 0]
            )
        )
    return Critic(hidden, critics.weights[-1][member], critics.biases[-1][member, 0])
