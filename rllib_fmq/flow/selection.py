"""Acting: how a chunk of actions is drawn from the flow map and chosen by the critic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rllib_fmq.flow.guidance import normalise, q_gradient

PolicyVelocity: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""``velocity(obs, a, r, t) -> u_{r,t}(a | obs)``, shapes (B, o), (B, A), (B, 1), (B, 1)."""

Score: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``score(obs, a) -> q``: one critic value a row, shapes (B, o), (B, A) -> (B,)."""

SelectorKind: TypeAlias = Literal["sample", "best_of_n", "euler", "qgbs"]
Completion: TypeAlias = Literal["jump", "euler"]
SELECTORS: tuple[SelectorKind, ...] = ("sample", "best_of_n", "euler", "qgbs")


class SelectionResult(NamedTuple):
    """Chosen chunks, their critic values (NaN where no critic was asked), and the cost."""

    actions: Tensor
    """Shape (N, A), in [-1, 1]."""
    q_values: Tensor
    """Shape (N,)."""
    nfe: int
    """Actor evaluations a decision."""


@dataclass(frozen=True)
class SelectorSettings:
    """Which selector, and its numbers. Each use (collection, target, evaluation) has its own."""

    kind: SelectorKind = "best_of_n"
    num_candidates: int = 32
    """N of best-of-N, also over Euler's samples; >= 1."""
    euler_steps: int = 10
    """Steps of the Euler integrator, >= 1."""
    beam_width: int = 4
    """M of QGBS, >= 1."""
    search_iters: int = 1
    """K of QGBS, >= 0."""
    branches: int = 4
    """B of QGBS, >= 1."""
    eta: float = 0.3
    """Trust-region radius of QGBS's own step, >= 0."""
    snr: float = 1.5
    """rho, signal-to-noise ratio of renoising, > 0."""
    completion: Completion = "jump"
    """How a renoised action is completed: X_{t',1} (Alg. 2) or one Euler step of u_{t',t'}."""
    grad_eps: float = 1e-8
    """Added to the gradient's norm, > 0."""

    def __post_init__(self) -> None:
        if self.kind not in SELECTORS:
            raise ValueError(f"selector kind {self.kind!r} is unknown: choose one of {SELECTORS}.")
        for name, least in (
            ("num_candidates", 1),
            ("euler_steps", 1),
            ("beam_width", 1),
            ("search_iters", 0),
            ("branches", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"selector {name}={getattr(self, name)}: must be >= {least}.")
        if self.eta < 0 or self.snr <= 0:
            raise ValueError(f"selector eta={self.eta} must be >= 0 and snr={self.snr} > 0.")
        if self.completion not in ("jump", "euler"):
            raise ValueError(f"selector completion {self.completion!r}: choose 'jump' or 'euler'.")

    @property
    def nfe(self) -> int:
        """Actor evaluations a decision: 1, N, N*steps, or M (1 + K B)."""
        if self.kind == "sample":
            return 1
        if self.kind == "best_of_n":
            return self.num_candidates
        if self.kind == "euler":
            return self.num_candidates * self.euler_steps
        return self.beam_width * (1 + self.search_iters * self.branches)


def _one_step(
    velocity: PolicyVelocity, obs: Tensor, action_size: int, generator: torch.Generator | None
) -> Tensor:
    """X_{0,1} of fresh noise, clipped: shape (B, A)."""
    noise = torch.randn(
        obs.shape[0], action_size, generator=generator, device=obs.device, dtype=obs.dtype
    )
    zero = torch.zeros(obs.shape[0], 1, device=obs.device, dtype=obs.dtype)
    return (noise + velocity(obs, noise, zero, torch.ones_like(zero))).clamp(-1.0, 1.0)


def _best(actions: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Highest score of each row: (N, C, A), (N, C) -> (N, A), (N,)."""
    top, index = scores.max(dim=1)
    chosen = actions.gather(1, index[:, None, None].expand(-1, 1, actions.shape[-1]))
    return chosen.squeeze(1), top


def sample(
    velocity: PolicyVelocity, obs: Tensor, action_size: int, generator: torch.Generator | None
) -> SelectionResult:
    """One sample of the one-step policy.

        a_1 = clip(a_0 + u_{0,1}(a_0)),   a_0 ~ N(0, I)

    Args:
        velocity: u, see ``PolicyVelocity``.
        obs: Shape (N, o).
        action_size: A = horizon_length * action_dim.
        generator: Source of the noise, on the device of ``obs``.
    Returns:
        Chunks (N, A); NFE 1.
    Source: Eq. 7.
    """
    actions = _one_step(velocity, obs, action_size, generator)
    return SelectionResult(actions, actions.new_full((obs.shape[0],), torch.nan), 1)


def best_of_n(
    velocity: PolicyVelocity,
    score: Score,
    obs: Tensor,
    action_size: int,
    num_candidates: int,
    generator: torch.Generator | None,
) -> SelectionResult:
    """The best by Q of N one-step samples.

    Args:
        velocity: u, see ``PolicyVelocity``.
        score: Critic value, see ``Score``.
        obs: Shape (N_obs, o).
        action_size: A.
        num_candidates: N >= 1.
        generator: Source of the noise.
    Returns:
        Chunks (N_obs, A); NFE N.
    Source: Table 7.
    """
    tiled = obs.repeat_interleave(num_candidates, dim=0)
    candidates = _one_step(velocity, tiled, action_size, generator)
    scores = score(tiled, candidates).view(obs.shape[0], num_candidates)
    actions, q = _best(candidates.view(obs.shape[0], num_candidates, action_size), scores)
    return SelectionResult(actions, q, num_candidates)


def euler(
    velocity: PolicyVelocity,
    score: Score,
    obs: Tensor,
    action_size: int,
    num_candidates: int,
    steps: int,
    generator: torch.Generator | None,
) -> SelectionResult:
    """The best by Q of N samples, each integrated by Euler's method.

        a_{k+1} = a_k + u_{t_k,t_k}(a_k) / n,   t_k = k / n

    Args:
        velocity: u, used on the diagonal only.
        score: Critic value; not asked when N = 1.
        obs: Shape (N_obs, o).
        action_size: A.
        num_candidates: N >= 1.
        steps: n >= 1.
        generator: Source of the noise.
    Returns:
        Chunks (N_obs, A); NFE n N.
    Source: Table 7, the QC baseline.
    """
    tiled = obs.repeat_interleave(num_candidates, dim=0)
    a = torch.randn(
        tiled.shape[0], action_size, generator=generator, device=obs.device, dtype=obs.dtype
    )
    for k in range(steps):
        t = torch.full((tiled.shape[0], 1), k / steps, device=obs.device, dtype=obs.dtype)
        a = a + velocity(tiled, a, t, t) / steps
    a = a.clamp(-1.0, 1.0)
    nfe = steps * num_candidates
    if num_candidates == 1:
        return SelectionResult(a, a.new_full((obs.shape[0],), torch.nan), nfe)
    scores = score(tiled, a).view(obs.shape[0], num_candidates)
    actions, q = _best(a.view(obs.shape[0], num_candidates, action_size), scores)
    return SelectionResult(actions, q, nfe)


def _guided_step(score: Score, obs: Tensor, actions: Tensor, eta: float, eps: float) -> Tensor:
    """clip(a + eta g / |g|_2), Theorem 3.2 at a sampled action. Shapes (B, A)."""
    if eta == 0.0:
        return actions

    def value(a: Tensor) -> tuple[Tensor, Tensor]:
        q = score(obs, a)
        return q, q

    _, gradient = q_gradient(value, actions)
    return (actions + eta * normalise(gradient, eps)).clamp(-1.0, 1.0)


def qgbs(
    velocity: PolicyVelocity,
    score: Score,
    obs: Tensor,
    action_size: int,
    settings: SelectorSettings,
    generator: torch.Generator | None,
) -> SelectionResult:
    """Q-guided beam search.

        t' = rho / (1 + rho)
        M samples; K times: B copies a' = X_{t',1}(t' a_1 + (1 - t') eps) of each,
        keep the M best of M B by Q, then a_1 <- clip(a_1 + eta g / |g|_2); best by Q.

    With K = 0 the M samples take one trust-region step, and the best by Q is returned.

    Args:
        velocity: u, see ``PolicyVelocity``.
        score: Critic value and guide, see ``Score``.
        obs: Shape (N, o).
        action_size: A.
        settings: M, K, B, eta, rho, and how a renoised action is completed.
        generator: Source of the noise.
    Returns:
        Chunks (N, A); NFE M (1 + K B).
    Source: Alg. 2.
    """
    num, width = obs.shape[0], settings.beam_width
    beam_obs = obs.repeat_interleave(width, dim=0)
    beam = _one_step(velocity, beam_obs, action_size, generator)  # Alg. 2, line 2
    nfe = width
    for _ in range(settings.search_iters):
        noise_level = settings.snr / (1.0 + settings.snr)
        copies = beam.repeat_interleave(settings.branches, dim=0)
        copies_obs = beam_obs.repeat_interleave(settings.branches, dim=0)
        eps = torch.randn(copies.shape, generator=generator, device=obs.device, dtype=obs.dtype)
        renoised = noise_level * copies + (1.0 - noise_level) * eps
        start = torch.full((copies.shape[0], 1), noise_level, device=obs.device, dtype=obs.dtype)
        end = torch.ones_like(start) if settings.completion == "jump" else start
        # Alg. 2, line 6; "euler" takes the same step along u_{t',t'} (D20).
        copies = renoised + (1.0 - noise_level) * velocity(copies_obs, renoised, start, end)
        copies = copies.clamp(-1.0, 1.0)
        nfe += width * settings.branches
        scores = score(copies_obs, copies).view(num, width * settings.branches)
        keep = scores.topk(width, dim=1).indices  # Alg. 2, line 8
        beam = (
            copies.view(num, width * settings.branches, action_size)
            .gather(1, keep[..., None].expand(-1, -1, action_size))
            .reshape(num * width, action_size)
        )
        beam = _guided_step(score, beam_obs, beam, settings.eta, settings.grad_eps)  # line 9
    if settings.search_iters == 0:
        beam = _guided_step(score, beam_obs, beam, settings.eta, settings.grad_eps)
    scores = score(beam_obs, beam).view(num, width)
    actions, q = _best(beam.view(num, width, action_size), scores)
    return SelectionResult(actions, q, nfe)


def select_actions(
    settings: SelectorSettings,
    velocity: PolicyVelocity,
    score: Score,
    obs: Tensor,
    action_size: int,
    generator: torch.Generator | None = None,
) -> SelectionResult:
    """Choose one chunk for each observation with the selector that ``settings`` names.

    Args:
        settings: Which selector and its numbers.
        velocity: u, see ``PolicyVelocity``.
        score: Critic value, see ``Score``.
        obs: Shape (N, o).
        action_size: A = horizon_length * action_dim.
        generator: Source of the noise, on the device of ``obs``; None is torch's own.
    Returns:
        Chunks (N, A) in [-1, 1], their values, and the NFE a decision.
    Source: SPEC of the four selectors: Eq. 7, Table 7, Alg. 2.
    """
    if settings.kind == "sample":
        return sample(velocity, obs, action_size, generator)
    if settings.kind == "best_of_n":
        return best_of_n(velocity, score, obs, action_size, settings.num_candidates, generator)
    if settings.kind == "euler":
        return euler(
            velocity,
            score,
            obs,
            action_size,
            settings.num_candidates,
            settings.euler_steps,
            generator,
        )
    return qgbs(velocity, score, obs, action_size, settings, generator)
