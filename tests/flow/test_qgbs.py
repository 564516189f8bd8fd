"""Q-guided beam search against a literal transcription of Algorithm 2."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rllib_fmq.flow import SelectorSettings, best_of_n, qgbs

NUM_OBS, OBS_DIM, SIZE = 4, 2, 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def velocity(obs: Tensor, a: Tensor, r: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(obs.sum(dim=-1, keepdim=True) + r - t) - 0.9 * a * (1.0 + 0.3 * r * t)


def goals(obs: Tensor) -> Tensor:
    return torch.tanh(obs @ torch.tensor([[1.0, -1.0, 0.5], [0.3, 0.8, -1.0]]).double())


def score(obs: Tensor, actions: Tensor) -> Tensor:
    return -(actions - goals(obs)).square().sum(dim=-1)


def score_gradient(obs: Tensor, actions: Tensor) -> Tensor:
    return -2.0 * (actions - goals(obs))


@pytest.fixture
def obs() -> Tensor:
    return torch.randn(NUM_OBS, OBS_DIM, generator=seeded(5), dtype=torch.float64)


def algorithm_2(
    state: Tensor, noise: Tensor, renoise: list[Tensor], settings: SelectorSettings
) -> tuple[Tensor, float]:
    """Algorithm 2 for one state, particle by particle, with given random numbers.

    ``noise`` is (M, A) and ``renoise`` K tensors (M, B, A).
    """
    state = state[None]
    snr = settings.snr
    t_prime = snr / (1.0 + snr)

    def at(time: float) -> Tensor:
        return torch.full((1, 1), time, dtype=torch.float64)

    def q(a: Tensor) -> float:
        return score(state, a).item()

    def climb(a: Tensor) -> Tensor:
        gradient = score_gradient(state, a)
        return (a + settings.eta * gradient / gradient.norm()).clamp(-1.0, 1.0)

    beam = [
        (a0[None] + velocity(state, a0[None], at(0.0), at(1.0))).clamp(-1.0, 1.0) for a0 in noise
    ]
    for draws in renoise:
        branches = []
        for m, particle in enumerate(beam):
            for b in range(settings.branches):
                start = t_prime * particle + (1.0 - t_prime) * draws[m, b]
                end = 1.0 if settings.completion == "jump" else t_prime
                u = velocity(state, start, at(t_prime), at(end))
                branches.append((start + (1.0 - t_prime) * u).clamp(-1.0, 1.0))
        branches.sort(key=q, reverse=True)
        beam = [climb(a) for a in branches[: settings.beam_width]]
    if not renoise:
        beam = [climb(a) for a in beam]
    best = max(beam, key=q)
    return best[0], q(best)


@pytest.mark.parametrize("completion", ["jump", "euler"])
@pytest.mark.parametrize("search_iters", [0, 1, 3])
def test_algorithm_2_literally(obs, search_iters, completion):
    settings = SelectorSettings(
        "qgbs",
        beam_width=3,
        search_iters=search_iters,
        branches=2,
        eta=0.2,
        snr=0.8,
        completion=completion,
    )
    result = qgbs(velocity, score, obs, SIZE, settings, seeded())

    generator, width, branches = seeded(), 3, 2
    noise = torch.randn(NUM_OBS * width, SIZE, generator=generator, dtype=torch.float64)
    noise = noise.view(NUM_OBS, width, SIZE)
    renoise = []
    for _ in range(search_iters):
        eps = torch.randn(
            NUM_OBS * width * branches, SIZE, generator=generator, dtype=torch.float64
        )
        renoise.append(eps.view(NUM_OBS, width, branches, SIZE))
    for row in range(NUM_OBS):
        own = [eps[row] for eps in renoise]
        # The search keeps its beam in order of value, so the draws meet the same particles.
        action, value = algorithm_2(obs[row], noise[row], own, settings)
        torch.testing.assert_close(result.actions[row], action, rtol=0, atol=1e-7)
        assert result.q_values[row].item() == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("width", [1, 4, 32])
def test_without_search_and_step_it_is_best_of_m(obs, width):
    settings = SelectorSettings("qgbs", beam_width=width, search_iters=0, eta=0.0)
    beam = qgbs(velocity, score, obs, SIZE, settings, seeded())
    best = best_of_n(velocity, score, obs, SIZE, width, seeded())
    assert torch.equal(beam.actions, best.actions)
    assert torch.equal(beam.q_values, best.q_values)
    assert beam.nfe == best.nfe == width


def test_completion_is_a_jump_to_one_or_a_step_along_the_diagonal(obs):
    seen: list[tuple[float, float]] = []

    def spy(obs: Tensor, a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        seen.append((round(r[0].item(), 12), round(t[0].item(), 12)))
        return velocity(obs, a, r, t)

    for completion in ("jump", "euler"):
        settings = SelectorSettings("qgbs", snr=1.5, completion=completion)
        qgbs(spy, score, obs, SIZE, settings, seeded())
    assert seen == [(0.0, 1.0), (0.6, 1.0), (0.0, 1.0), (0.6, 0.6)]


def test_search_improves_on_the_best_of_its_samples(narrow_gaussian):
    """The goal lies far out of the policy's reach, so only guidance can come nearer."""
    count = 256
    obs = torch.zeros(count, OBS_DIM, dtype=torch.float64)
    goal = torch.tensor([0.9, 0.5], dtype=torch.float64)

    def policy(obs: Tensor, a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return narrow_gaussian.velocity(a, r, t)

    def value(obs: Tensor, actions: Tensor) -> Tensor:
        return -(actions - goal).square().sum(dim=-1)

    def mean_value(**changes: float) -> float:
        settings = SelectorSettings("qgbs", **changes)
        return qgbs(policy, value, obs, 2, settings, seeded()).q_values.mean().item()

    best = best_of_n(policy, value, obs, 2, 4, seeded()).q_values.mean().item()
    stepped = mean_value(search_iters=0)
    once, twice = mean_value(search_iters=1), mean_value(search_iters=2)
    assert stepped > best + 0.2, "the trust-region step alone"
    assert mean_value(search_iters=1, eta=0.0) > best + 0.01, "more candidates alone"
    assert once > stepped + 0.01
    assert twice > once + 0.01


def test_step_of_the_search_is_as_long_as_eta():
    obs = torch.randn(256, OBS_DIM, generator=seeded(5), dtype=torch.float64)
    settings = SelectorSettings("qgbs", beam_width=1, search_iters=0, eta=0.05)
    moved = qgbs(velocity, score, obs, SIZE, settings, seeded()).actions
    start = best_of_n(velocity, score, obs, SIZE, 1, seeded()).actions
    inside = (start.abs() < 0.95).all(dim=-1)
    assert inside.sum() > 10
    distance = (moved - start).norm(dim=-1)[inside]
    torch.testing.assert_close(distance, torch.full_like(distance, 0.05), rtol=1e-6, atol=0)
