"""The networks of the plain baseline, and the exchange of weights with ``rllib_fmq``'s."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

HIDDEN = (512, 512, 512, 512)
TIME_FEATURES = 64


def linear(fan_in: int, fan_out: int) -> nn.Linear:
    """A layer with uniform fan-average kernels and zero biases."""
    layer = nn.Linear(fan_in, fan_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Actor(nn.Module):
    """u_{r,t}(a | s) = MLP([s, a, F(r), F(t)]), with [F(t_c), a_c] too if ``conditioning``."""

    freqs: Tensor

    def __init__(
        self,
        obs_dim: int,
        action_size: int,
        hidden: Sequence[int] = HIDDEN,
        time_features: int = TIME_FEATURES,
        conditioning: bool = False,
        gelu: str = "tanh",
    ) -> None:
        super().__init__()
        self.conditioning = conditioning
        half = time_features // 2
        freqs = torch.exp(
            -math.log(10_000.0) * torch.arange(half, dtype=torch.float32) / (half - 1)
        )
        self.register_buffer("freqs", freqs)
        size = obs_dim + action_size + 2 * time_features
        if conditioning:
            size += time_features + action_size
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise([size, *hidden]):
            layers += [linear(fan_in, fan_out), nn.GELU(approximate=gelu)]
        self.mlp = nn.Sequential(*layers, linear(hidden[-1], action_size))

    def features(self, time: Tensor) -> Tensor:
        """F(t): (B, 1) -> (B, time_features)."""
        angle = time * self.freqs
        return torch.cat([angle.cos(), angle.sin()], dim=-1)

    def forward(
        self,
        obs: Tensor,
        a: Tensor,
        r: Tensor,
        t: Tensor,
        condition: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Shapes (B, o), (B, A), (B, 1), (B, 1), and (B, 1), (B, A) of (t_c, a_c) -> (B, A)."""
        parts = [obs, a, self.features(r), self.features(t)]
        if self.conditioning:
            t_c, a_c = condition or (torch.zeros_like(r), torch.zeros_like(a))
            parts += [self.features(t_c), a_c]
        return self.mlp(torch.cat(parts, dim=-1))


class Critic(nn.Module):
    """Q(s, a): GELU, then LayerNorm, after each hidden layer."""

    def __init__(
        self, obs_dim: int, action_size: int, hidden: Sequence[int] = HIDDEN, gelu: str = "tanh"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise([obs_dim + action_size, *hidden]):
            layers += [
                linear(fan_in, fan_out),
                nn.GELU(approximate=gelu),
                nn.LayerNorm(fan_out, eps=1e-6),
            ]
        self.mlp = nn.Sequential(*layers, linear(hidden[-1], 1))

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Shapes (B, o), (B, A) -> (B,)."""
        return self.mlp(torch.cat([obs, actions], dim=-1)).squeeze(-1)


@dataclass
class Nets:
    """Actor and critics, which are trained, and the frozen target critics and reference actor."""

    actor: Actor
    critics: nn.ModuleList
    target_critics: nn.ModuleList
    reference_actor: Actor
    outputs_first: bool = True
    """Whether ``CriticEnsemble`` stacks its kernels as (n, out, in), or as (n, in, out)."""

    @classmethod
    def create(
        cls, obs_dim: int, action_size: int, hidden: Sequence[int] = HIDDEN, num_critics: int = 2
    ) -> Nets:
        """New networks from torch's global generator."""
        actor = Actor(obs_dim, action_size, hidden)
        critics = nn.ModuleList(Critic(obs_dim, action_size, hidden) for _ in range(num_critics))
        return cls(
            actor,
            critics,
            copy.deepcopy(critics).requires_grad_(False),
            copy.deepcopy(actor).requires_grad_(False),
        )

    @classmethod
    def from_state_dicts(
        cls,
        actor: Mapping[str, Tensor],
        critics: Mapping[str, Tensor],
        target_critics: Mapping[str, Tensor] | None = None,
        reference_actor: Mapping[str, Tensor] | None = None,
        *,
        time_features: int = TIME_FEATURES,
        conditioning: bool = False,
        gelu: str = "tanh",
    ) -> Nets:
        """Networks with the weights of ``rllib_fmq``'s modules; sizes and dtype are theirs.

        Args:
            actor: ``VelocityField.state_dict()``.
            critics: ``CriticEnsemble.state_dict()``.
            target_critics: The same of the target critics; None: as ``critics``.
            reference_actor: The same of the reference; None: as ``actor``.
            time_features: Of each time axis.
            conditioning: Whether the actor takes (t_c, a_c).
            gelu: "tanh" or "none", as torch names them.
        """
        kernels = [actor[f"mlp.{2 * i}.weight"] for i in range(_count(actor, "weight"))]
        hidden = [kernel.shape[0] for kernel in kernels[:-1]]
        size = kernels[-1].shape[0]
        stacks = [critics[f"weights.{i}"] for i in range(_count(critics, "weights"))]
        outputs_first = stacks[-1].shape[1] == 1
        fan_in, fan_out = (2, 1) if outputs_first else (1, 2)
        obs_dim, dtype = stacks[0].shape[fan_in] - size, kernels[0].dtype

        def make_actor(state: Mapping[str, Tensor]) -> Actor:
            made = Actor(obs_dim, size, hidden, time_features, conditioning, gelu).to(dtype)
            made.load_state_dict({"freqs": made.freqs} | dict(state))
            return made

        def make_critics(state: Mapping[str, Tensor]) -> nn.ModuleList:
            widths = [stack.shape[fan_out] for stack in stacks[:-1]]
            made = nn.ModuleList(
                Critic(obs_dim, size, widths, gelu).to(dtype) for _ in range(stacks[0].shape[0])
            )
            with torch.no_grad():
                for j, critic in enumerate(made):
                    for name, parameter in zip(
                        _critic_names(len(stacks)), critic.parameters(), strict=True
                    ):
                        ours = state[name][j]
                        if not name.startswith("weights"):
                            ours = ours[0]
                        elif not outputs_first:
                            ours = ours.T
                        parameter.copy_(ours)
            return made

        return cls(
            make_actor(actor),
            make_critics(critics),
            make_critics(target_critics or critics).requires_grad_(False),
            make_actor(reference_actor or actor).requires_grad_(False),
            outputs_first,
        )

    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [*self.actor.parameters(), *self.critics.parameters()]

    def named_like(self, grads: bool = False) -> dict[str, Tensor]:
        """Parameters, or their gradients, under the names and in the shapes of ``FlowMapModule``.

        Args:
            grads: Gradients instead of values; those that are None are left out.
        """

        def of(parameter: nn.Parameter) -> Tensor | None:
            return parameter.grad if grads else parameter.detach()

        named = {f"actor.{name}": of(p) for name, p in self.actor.named_parameters()}
        depth = sum(isinstance(layer, nn.Linear) for layer in self.critics[0].mlp)
        for name, members in zip(
            _critic_names(depth),
            zip(*(critic.parameters() for critic in self.critics), strict=True),
            strict=True,
        ):
            values = [of(p) for p in members]
            if all(value is None for value in values):
                continue
            # A member without a gradient beside one that has it counts as zero.
            full = [
                torch.zeros_like(p) if v is None else v
                for v, p in zip(values, members, strict=True)
            ]
            stacked = torch.stack(full)
            if not name.startswith("weights"):
                stacked = stacked.unsqueeze(1)
            elif not self.outputs_first:
                stacked = stacked.mT
            named[f"critics.{name}"] = stacked
        return {name: value for name, value in named.items() if value is not None}


def gradients_like(nets: Nets) -> dict[str, Tensor]:
    """Gradients of the trained parameters as ``FlowMapModule.named_parameters()`` names them.

    Args:
        nets: After a backward pass.
    Returns:
        Name to gradient in ``FlowMapModule``'s shape; parameters without a gradient are left out.
    """
    return nets.named_like(grads=True)


def _count(state: Mapping[str, Tensor], word: str) -> int:
    return sum(word in name.split(".") for name in state)


def _critic_names(depth: int) -> list[str]:
    """``CriticEnsemble``'s names in the order of ``Critic.parameters()``."""
    names = []
    for i in range(depth):
        names += [f"weights.{i}", f"biases.{i}"]
        if i < depth - 1:
            names += [f"scales.{i}", f"shifts.{i}"]
    return names
