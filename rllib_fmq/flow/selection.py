"""Acting: how a chunk of actions is drawn from the flow map and chosen by the critic."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rllib_fmq.flow.bound_policy import (
    BoundPolicy,
    GradientAt,
    PolicyVelocity,
    Score,
    TiledPolicy,
    take,
)
from rllib_fmq.flow.guidance import normalise

SelectorKind: TypeAlias = Literal["sample", "best_of_n", "euler", "qgbs"]
Completion: TypeAlias = Literal["jump", "euler"]
SELECTORS: tuple[SelectorKind, ...] = ("sample", "best_of_n", "euler", "qgbs")
NoiseSource: TypeAlias = torch.Generator | Callable[[tuple[int, ...]], Tensor] | None
"""What standard normal numbers come from: a generator (None: torch's own), or, for noise that was
drawn before, what returns the tensor of a shape."""


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
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"selector {name}={value!r}: must be a whole number >= {least}.")
        for name in ("eta", "snr", "grad_eps"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"selector {name}={value!r}: must be a number.")
        if self.eta < 0 or self.snr <= 0:
            raise ValueError(f"selector eta={self.eta} must be >= 0 and snr={self.snr} > 0.")
        if self.grad_eps <= 0:
            raise ValueError(f"selector grad_eps={self.grad_eps}: must be > 0.")
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


def _normal(shape: tuple[int, ...], like: Tensor, generator: NoiseSource) -> Tensor:
    if callable(generator):
        return generator(shape)
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)


def _one_step(policy: BoundPolicy, noise: Tensor) -> Tensor:
    """X_{0,1} of noise, clipped: (N, C, A) -> (N, C, A)."""
    return (noise + policy.velocity(noise, 0.0, 1.0)).clamp_(-1.0, 1.0)


def _best(actions: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Highest score of each row: (N, C, A), (N, C) -> (N, A), (N,)."""
    top, index = scores.max(dim=1, keepdim=True)
    return take(actions, index).squeeze(1), top.squeeze(1)


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
    policy = TiledPolicy(velocity, None, obs)
    return select_bound(SelectorSettings("sample"), policy, obs, action_size, generator)


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
    settings = SelectorSettings("best_of_n", num_candidates=num_candidates)
    policy = TiledPolicy(velocity, score, obs)
    return select_bound(settings, policy, obs, action_size, generator)


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
    settings = SelectorSettings("euler", num_candidates=num_candidates, euler_steps=steps)
    policy = TiledPolicy(velocity, score, obs)
    return select_bound(settings, policy, obs, action_size, generator)


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
    policy = TiledPolicy(velocity, score, obs)
    return select_bound(replace(settings, kind="qgbs"), policy, obs, action_size, generator)


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
    policy = TiledPolicy(velocity, score, obs)
    return select_bound(settings, policy, obs, action_size, generator)


def select_bound(
    settings: SelectorSettings,
    policy: BoundPolicy,
    like: Tensor,
    action_size: int,
    generator: NoiseSource = None,
) -> SelectionResult:
    """``select_actions`` for a policy that already knows its observations.

    Args:
        settings: Which selector and its numbers.
        policy: See ``BoundPolicy``.
        like: Any tensor of the device and type that the noise is wanted in.
        action_size: A.
        generator: Source of the noise.
    Returns:
        Chunks (N, A) in [-1, 1], their values, and the NFE a decision.
    Source: Eq. 7, Table 7, Alg. 2.
    """
    num = policy.num_obs
    if settings.kind == "qgbs":
        return _qgbs(settings, policy, like, action_size, generator)
    count = 1 if settings.kind == "sample" else settings.num_candidates
    candidates = _normal((num, count, action_size), like, generator)
    if settings.kind == "euler":
        steps = settings.euler_steps
        for k in range(steps):
            candidates = candidates + policy.velocity(candidates, k / steps, k / steps) / steps
        candidates = candidates.clamp(-1.0, 1.0)
    else:
        candidates = _one_step(policy, candidates)
    if settings.kind == "sample" or (settings.kind == "euler" and count == 1):
        unknown = candidates.new_full((num,), torch.nan)
        return SelectionResult(candidates.squeeze(1), unknown, settings.nfe)
    actions, q = _best(candidates, policy.score(candidates))
    return SelectionResult(actions, q, settings.nfe)


def _qgbs(
    settings: SelectorSettings,
    policy: BoundPolicy,
    like: Tensor,
    action_size: int,
    generator: NoiseSource,
) -> SelectionResult:
    num, width = policy.num_obs, settings.beam_width
    shape = (num, width, action_size)
    beam = _one_step(policy, _normal(shape, like, generator))  # Alg. 2, line 2
    start = settings.snr / (1.0 + settings.snr)
    end = 1.0 if settings.completion == "jump" else start
    for _ in range(settings.search_iters):
        copies = beam.repeat_interleave(settings.branches, dim=1)
        eps = _normal(tuple(copies.shape), like, generator)
        renoised = start * copies + (1.0 - start) * eps
        # Alg. 2, line 6; "euler" takes the same step along u_{t',t'} (D20).
        copies = renoised + (1.0 - start) * policy.velocity(renoised, start, end)
        copies = copies.clamp_(-1.0, 1.0)
        # The gradient's forward pass is the one that scored: the kept are among the scored.
        scores, gradient_at = policy.score_for_step(copies)
        keep = scores.topk(width, dim=1).indices  # Alg. 2, line 8
        beam = _guided_step(settings, take(copies, keep), gradient_at, keep)  # line 9
    if settings.search_iters == 0:
        _, gradient_at = policy.score_for_step(beam)
        everyone = torch.arange(width, device=beam.device).expand(num, width)
        beam = _guided_step(settings, beam, gradient_at, everyone)
    actions, q = _best(beam, policy.score(beam))
    return SelectionResult(actions, q, settings.nfe)


def _guided_step(
    settings: SelectorSettings, actions: Tensor, gradient_at: GradientAt, index: Tensor
) -> Tensor:
    """clip(a + eta g / |g|_2), Theorem 3.2 at a sampled action. Shapes (N, M, A)."""
    if settings.eta == 0.0:
        return actions
    step = settings.eta * normalise(gradient_at(index), settings.grad_eps)
    return (actions + step).clamp_(-1.0, 1.0)
