"""Selectors as programs that torch.export and ONNX can trace: chunks from given noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rllib_fmq.flow.bound_policy import GradientAt, take
from rllib_fmq.flow.critic import Aggregation, aggregate
from rllib_fmq.flow.selection import SelectorSettings, select_bound
from rllib_fmq.nn.critic_ensemble import LAYER_NORM_EPS
from rllib_fmq.nn.network_views import Critic, NetworkViews

NOISE = "noise"
"""Input: what candidates start from."""
RENOISE = "renoise"
"""Input: what QGBS renoises its copies with."""


def noise_shapes(settings: SelectorSettings, action_size: int) -> dict[str, tuple[int, ...]]:
    """The noise that one decision takes.

    Args:
        settings: The selector.
        action_size: A = horizon_length * action_dim.
    Returns:
        Shape of each input for one observation: ``noise`` is (C, A), ``renoise`` (K, M B, A).
    Source: Eq. 7, Table 7, Alg. 2.
    """
    if settings.kind == "sample":
        return {NOISE: (1, action_size)}
    if settings.kind != "qgbs":
        return {NOISE: (settings.num_candidates, action_size)}
    shapes: dict[str, tuple[int, ...]] = {NOISE: (settings.beam_width, action_size)}
    if settings.search_iters:
        copies = settings.beam_width * settings.branches
        shapes[RENOISE] = (settings.search_iters, copies, action_size)
    return shapes


class SelectorProgram(nn.Module):
    """One selector with the networks that it needs, and nothing of training.

    Args:
        networks: Of the trained policy; copied.
        settings: The selector.
        how: Aggregation of the critics to one score.
        chunk_shape: (H, d).
    Source: ours.
    """

    def __init__(
        self,
        networks: NetworkViews,
        settings: SelectorSettings,
        how: Aggregation,
        chunk_shape: tuple[int, int],
    ) -> None:
        super().__init__()
        self.settings = settings
        self.how = how
        self.chunk_shape = chunk_shape
        self.action_size = chunk_shape[0] * chunk_shape[1]
        used = _Recorder()
        select_bound(settings, used, torch.zeros(1), self.action_size)
        self.actor = _Actor(networks, used.times)
        self.critics = nn.ModuleList(
            _Critic(critic, networks.obs_dim, networks.critic_gelu)
            for critic in (networks.critics if used.scored else [])
        )

    def forward(self, obs: Tensor, noise: Tensor, renoise: Tensor | None = None) -> Tensor:
        """Choose one chunk for each observation.

        Args:
            obs: Shape (N, o).
            noise: Standard normal, shape (N, C, A), see ``noise_shapes``.
            renoise: The same of QGBS's renoising, shape (N, K, M B, A).
        Returns:
            Shape (N, H, d), in [-1, 1].
        """
        draws: Iterator[Tensor] = iter(
            [noise] if renoise is None else [noise, *renoise.unbind(dim=1)]
        )
        policy = _Bound(self, obs)
        chosen = select_bound(self.settings, policy, obs, self.action_size, lambda _: next(draws))
        chunks: Tensor = chosen.actions.unflatten(1, self.chunk_shape)  # type: ignore[no-untyped-call]
        return chunks


class _Recorder:
    """Stands for a policy while a selector is watched: which flow times, and are critics asked?"""

    num_obs = 1

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []
        self.scored = False

    def velocity(self, a: Tensor, r: float, t: float) -> Tensor:
        if (r, t) not in self.times:
            self.times.append((r, t))
        return torch.zeros_like(a)

    def score(self, a: Tensor) -> Tensor:
        self.scored = True
        return a.sum(dim=-1)

    def score_for_step(self, a: Tensor) -> tuple[Tensor, GradientAt]:
        return self.score(a), lambda index: take(a, index)


class _Bound:
    """``BoundPolicy`` without branches on sizes, which a trace would fix.

    An observation's part of a first layer is computed once for its candidates. The critics'
    gradient is written out, since traces hold no autograd.
    """

    def __init__(self, program: SelectorProgram, obs: Tensor) -> None:
        self.num_obs = obs.shape[0]
        self._program = program
        self._obs = obs

    def velocity(self, a: Tensor, r: float, t: float) -> Tensor:
        out: Tensor = self._program.actor(self._obs, a, (r, t))
        return out

    def score(self, a: Tensor) -> Tensor:
        return self.score_for_step(a)[0]

    def score_for_step(self, a: Tensor) -> tuple[Tensor, GradientAt]:
        how, critics = self._program.how, cast(list[_Critic], list(self._program.critics))
        results = [critic(self._obs, a) for critic in critics]
        q = torch.stack([values for values, _ in results])

        def gradient(index: Tensor) -> Tensor:
            kept = q.gather(2, index.expand(len(results), -1, -1))
            if how == "min":
                cotangent = (kept == kept.amin(dim=0)).to(kept.dtype)
                cotangent = cotangent / cotangent.sum(dim=0)  # as amin's own gradient at a tie
            else:
                cotangent = torch.full_like(kept, 1.0 / len(results))
            parts = [
                critic.action_gradient([layer.rows(index) for layer in tape], share)
                for critic, (_, tape), share in zip(
                    critics, results, cotangent.unbind(), strict=True
                )
            ]
            return torch.stack(parts).sum(dim=0)

        return aggregate(q, how), gradient


class _Actor(nn.Module):
    """u_{r,t} at given pairs of flow times, whose features are a part of the first bias."""

    def __init__(self, networks: NetworkViews, times: list[tuple[float, float]]) -> None:
        super().__init__()
        self._times = {pair: k for k, pair in enumerate(times)}
        self._gelu = networks.actor_gelu
        self.time_biases = _frozen([networks.time_bias(r, t) for r, t in times])
        obs_dim = networks.obs_dim
        first = networks.first_weight
        self.first = _frozen([first[:, :obs_dim], first[:, obs_dim:]])
        self.weights = _frozen([weight for weight, _ in networks.actor_layers])
        self.biases = _frozen([bias for _, bias in networks.actor_layers])

    def forward(self, obs: Tensor, a: Tensor, times: tuple[float, float]) -> Tensor:
        bias = self.time_biases[self._times[times]]
        x = F.linear(obs, self.first[0], bias).unsqueeze(1) + F.linear(a, self.first[1])
        for weight, layer_bias in zip(self.weights, self.biases, strict=True):
            x = F.linear(F.gelu(x, approximate=self._gelu), weight, layer_bias)
        return x


class _Saved(NamedTuple):
    """What the way back needs of one hidden layer, each of shape (N, C, ...)."""

    before: Tensor
    """Input of the GELU."""
    active: Tensor
    """Its output."""
    mean: Tensor
    inverse_std: Tensor

    def rows(self, index: Tensor) -> _Saved:
        """The same of some candidates, ``index`` of shape (N, M)."""
        return _Saved(*(take(x, index) for x in self))


class _Critic(nn.Module):
    """One member of the ensemble."""

    def __init__(self, critic: Critic, obs_dim: int, gelu: str) -> None:
        super().__init__()
        self._gelu = gelu
        first = critic.hidden[0].weight
        self.first = _frozen([first[:, :obs_dim], first[:, obs_dim:]])
        self.weights = _frozen([layer.weight for layer in critic.hidden[1:]])
        self.biases = _frozen([layer.bias for layer in critic.hidden])
        self.scales = _frozen([layer.scale for layer in critic.hidden])
        self.shifts = _frozen([layer.shift for layer in critic.hidden])
        self.head = _frozen([critic.head_weight, critic.head_bias])

    def forward(self, obs: Tensor, a: Tensor) -> tuple[Tensor, list[_Saved]]:
        """Values (N, C), and what ``action_gradient`` needs."""
        before = F.linear(obs, self.first[0], self.biases[0]).unsqueeze(1)
        before = before + F.linear(a, self.first[1])
        tape: list[_Saved] = []
        x = before
        for k, (scale, shift) in enumerate(zip(self.scales, self.shifts, strict=True)):
            if k:
                before = F.linear(x, self.weights[k - 1], self.biases[k])
            active = F.gelu(before, approximate=self._gelu)
            x, mean, inverse_std = torch.native_layer_norm(
                active, [active.shape[-1]], scale, shift, LAYER_NORM_EPS
            )
            tape.append(_Saved(before, active, mean, inverse_std))
        return F.linear(x, self.head[0], self.head[1]).squeeze(-1), tape

    def action_gradient(self, tape: list[_Saved], cotangent: Tensor) -> Tensor:
        """C dQ/da, shapes (N, M) -> (N, M, A), by the chain rule."""
        flow: Tensor = cotangent.unsqueeze(-1) * self.head[0]
        kernels = [self.first[1], *self.weights]
        for kernel, scale, saved in zip(
            reversed(kernels), reversed(list(self.scales)), reversed(tape), strict=True
        ):
            unit = (saved.active - saved.mean) * saved.inverse_std
            flow = flow * scale
            along = (flow * unit).mean(dim=-1, keepdim=True)
            flow = (flow - flow.mean(dim=-1, keepdim=True) - unit * along) * saved.inverse_std
            flow = torch.ops.aten.gelu_backward(flow, saved.before, approximate=self._gelu)
            flow = flow @ kernel
        return flow


def _frozen(tensors: list[Tensor]) -> nn.ParameterList:
    copies = (t.detach().clone(memory_format=torch.contiguous_format) for t in tensors)
    return nn.ParameterList(nn.Parameter(copy, requires_grad=False) for copy in copies)
