"""The plain baseline: an eager PyTorch loop as a good researcher writes it, without RLlib.

No trick that a profile would have to suggest, and no deliberate slowness: fused Adam, one backward
for all losses, no gradient where none is needed, one batched forward for all candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.plain_losses import (
    Batch,
    Windows,
    critic_loss,
    diagonal_loss,
    distillation_loss,
    q_guidance_loss,
)
from benchmarks.speed.plain_networks import HIDDEN, Actor, Critic, Nets, gradients_like
from benchmarks.speed.plain_selection import best_of_n, euler_best_of_n, qgbs, sample
from benchmarks.speed.problem import EULER_STEPS, NUM_CANDIDATES, Method

__all__ = [
    "Actor",
    "Batch",
    "Critic",
    "Nets",
    "PlainLoop",
    "Windows",
    "best_of_n",
    "critic_loss",
    "diagonal_loss",
    "distillation_loss",
    "euler_best_of_n",
    "gradients_like",
    "q_guidance_loss",
    "qgbs",
    "sample",
    "to_batch",
]


def to_batch(arrays: Mapping[str, np.ndarray], device: str | torch.device = "cpu") -> Batch:
    """Tensors of ``problem.random_batch``'s arrays."""
    return Batch(**{name: torch.from_numpy(value).to(device) for name, value in arrays.items()})


class PlainLoop:
    """One method's networks, optimiser and update.

    Args:
        obs_dim: Size of an observation.
        action_dim: Size of a primitive action.
        horizon: H.
        batch_size: B.
        method: "FMQ", "MVP" or "QC".
        online: Whether the online phase's actor loss applies; QC has the same in both.
        target_candidates: N of the critic target's action; 1 takes a sample unscored.
        seed: Of the weights and of all noise.
        hidden: Widths of the hidden layers.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        horizon: int,
        batch_size: int,
        method: Method = "FMQ",
        online: bool = False,
        target_candidates: int = 1,
        seed: int = 0,
        hidden: Sequence[int] = HIDDEN,
    ) -> None:
        self.method, self.online, self.target_candidates = method, online, target_candidates
        self.batch_size, self.action_size = batch_size, horizon * action_dim
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.nets = Nets.create(obs_dim, self.action_size, hidden)
        self.optimizer = torch.optim.Adam(self.nets.parameters(), lr=3e-4, fused=True)
        self.generator = torch.Generator().manual_seed(seed)
        self.tau = 0.005

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(self.batch_size, *shape, generator=self.generator)

    def _uniform(self, columns: int = 1) -> Tensor:
        return torch.rand(self.batch_size, columns, generator=self.generator)

    def target_actions(self, next_obs: Tensor) -> Tensor:
        """a'_1 of Eq. 8: (B, o) -> (B, A)."""
        noise = self._normal(self.target_candidates, self.action_size)
        if self.method == "QC":
            return euler_best_of_n(self.nets, next_obs, noise, EULER_STEPS)[0]
        if self.target_candidates == 1:
            return sample(self.nets, next_obs, noise[:, 0])
        return best_of_n(self.nets, next_obs, noise)[0]

    def actor_loss(self, batch: Windows) -> Tensor:
        """The method's actor loss in its phase."""
        nets, actions, weight = self.nets, batch.actions, batch.valid
        if self.method == "FMQ" and self.online:
            return q_guidance_loss(nets, batch, self._normal(self.action_size), self._uniform())
        if self.method == "MVP" and self.online:
            noise = self._normal(NUM_CANDIDATES, self.action_size)
            actions, weight = best_of_n(nets, batch.obs, noise, "min")[0], None
        loss = diagonal_loss(
            nets, batch.obs, actions, weight, self._normal(self.action_size), self._uniform()
        )
        if self.method == "QC":
            return loss
        r, t = self._uniform(2).sort(dim=1).values.split(1, dim=1)
        return loss + distillation_loss(
            "esd", nets, batch.obs, actions, weight, self._normal(self.action_size), r, t
        )

    def update(self, batch: Windows) -> Tensor:
        """One gradient update and Polyak step on a batch of B windows.

        Returns:
            The loss, detached.
        """
        next_actions = self.target_actions(batch.next_obs)
        loss = critic_loss(self.nets, batch, next_actions) + self.actor_loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.nets.target_critics.parameters()),
                list(self.nets.critics.parameters()),
                self.tau,
            )
        return loss.detach()
