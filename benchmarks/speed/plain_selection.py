"""The four ways to choose a chunk, written straight from the paper; noise is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from benchmarks.speed.plain_networks import Nets

Scoring = Literal["min", "mean"]


def score(nets: Nets, obs: Tensor, actions: Tensor, scoring: Scoring) -> Tensor:
    """One value a row from the ensemble: (B, o), (B, A) -> (B,)."""
    values = torch.stack([critic(obs, actions) for critic in nets.critics])
    return values.min(dim=0).values if scoring == "min" else values.mean(dim=0)


def jump_to_end(nets: Nets, obs: Tensor, a: Tensor, start: float) -> Tensor:
    """X_{start,1}(a), clipped: (B, o), (B, A) -> (B, A)."""
    r = torch.full_like(a[:, :1], start)
    return (a + (1 - start) * nets.actor(obs, a, r, torch.ones_like(r))).clamp(-1, 1)


def best(actions: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The best of each row of candidates: (B, N, A), (B, N) -> (B, A), (B,)."""
    top, index = values.max(dim=1)
    return actions[torch.arange(len(actions), device=actions.device), index], top


@torch.no_grad()
def sample(nets: Nets, obs: Tensor, noise: Tensor) -> Tensor:
    """Eq. 7: (B, o), (B, A) -> (B, A)."""
    return jump_to_end(nets, obs, noise, 0.0)


@torch.no_grad()
def best_of_n(
    nets: Nets, obs: Tensor, noise: Tensor, scoring: Scoring = "mean"
) -> tuple[Tensor, Tensor]:
    """The best by Q of N samples: obs (B, o), noise (B, N, A) -> (B, A), (B,)."""
    batch, num, size = noise.shape
    tiled = obs.repeat_interleave(num, dim=0)
    candidates = jump_to_end(nets, tiled, noise.reshape(batch * num, size), 0.0)
    values = score(nets, tiled, candidates, scoring).view(batch, num)
    return best(candidates.view(batch, num, size), values)


@torch.no_grad()
def euler_best_of_n(
    nets: Nets, obs: Tensor, noise: Tensor, steps: int = 10, scoring: Scoring = "mean"
) -> tuple[Tensor, Tensor]:
    """QC's: each candidate by Euler's method; one candidate is not scored (NaN).

    Shapes (B, o), (B, N, A) -> (B, A), (B,).
    """
    batch, num, size = noise.shape
    tiled = obs.repeat_interleave(num, dim=0)
    a = noise.reshape(batch * num, size)
    for k in range(steps):
        t = torch.full_like(a[:, :1], k / steps)
        a = a + nets.actor(tiled, a, t, t) / steps
    a = a.clamp(-1, 1)
    if num == 1:
        return a, torch.full_like(a[:, 0], torch.nan)
    values = score(nets, tiled, a, scoring).view(batch, num)
    return best(a.view(batch, num, size), values)


@torch.no_grad()
def qgbs(
    nets: Nets,
    obs: Tensor,
    noise: Tensor,
    renoise: Sequence[Tensor],
    *,
    eta: float = 0.3,
    snr: float = 1.5,
    scoring: Scoring = "min",
    grad_eps: float = 1e-8,
) -> tuple[Tensor, Tensor]:
    """Alg. 2. K is the length of ``renoise``; without any, one trust-region step on the samples.

    Args:
        nets: Actor and critics.
        obs: Shape (n, o).
        noise: Of the first samples, shape (n, M, A).
        renoise: Of each iteration, shape (n, M B, A), the B copies of a particle side by side.
        eta: Radius of the trust-region step.
        snr: rho.
        scoring: How the critics' values are joined, for the choice and for the gradient.
        grad_eps: Added to the gradient's norm.
    Returns:
        Chunks (n, A) and their values (n,).
    """
    batch, width, size = noise.shape
    beam_obs = obs.repeat_interleave(width, dim=0)

    def climb(a: Tensor) -> Tensor:
        with torch.enable_grad():
            a = a.detach().requires_grad_(True)
            (g,) = torch.autograd.grad(score(nets, beam_obs, a, scoring).sum(), a)
        step = eta * g / (g.norm(dim=-1, keepdim=True) + grad_eps)
        return (a.detach() + step).clamp(-1, 1)

    beam = jump_to_end(nets, beam_obs, noise.reshape(batch * width, size), 0.0)
    level = snr / (1 + snr)
    for eps in renoise:
        copies = beam.view(batch, width, size).repeat_interleave(eps.shape[1] // width, dim=1)
        noised = (level * copies + (1 - level) * eps).view(-1, size)
        copies_obs = obs.repeat_interleave(eps.shape[1], dim=0)
        copies = jump_to_end(nets, copies_obs, noised, level)
        values = score(nets, copies_obs, copies, scoring).view(batch, -1)
        keep = values.topk(width, dim=1).indices
        rows = torch.arange(batch, device=obs.device)[:, None]
        beam = climb(copies.view(batch, -1, size)[rows, keep].view(-1, size))
    if not renoise:
        beam = climb(beam)
    values = score(nets, beam_obs, beam, scoring).view(batch, width)
    return best(beam.view(batch, width, size), values)
