"""Each self-distillation loss, from scratch, learns the one-step map of a Gaussian."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from rllib_fmq.flow import (
    SELF_DISTILLATION_LOSSES,
    diagonal_loss,
    interval_factor,
    jump,
    time_pair,
)

UPDATES = 600
WARMUP, ANNEAL_END = UPDATES // 10, UPDATES // 2
BATCH = 256
SEED = 0

# Seeds 0 to 3 fell from 0.87 to 0.97 before training to 0.09 to 0.11 (esd), 0.04 to 0.06 (lsd) and
# 0.11 to 0.23 (psd); without self-distillation they stayed at 0.56 to 0.66.
ERROR_ALLOWED = {"esd": 0.2, "lsd": 0.15, "psd": 0.35}


class Errors(NamedTuple):
    """Root mean square error of X_{0,1}, over fresh noise."""

    before: float
    after: float


@pytest.fixture(scope="module")
def problem(gaussian_type):
    return gaussian_type(
        torch.tensor([0.8, -0.5], dtype=torch.float64),
        torch.tensor([0.3, 0.6], dtype=torch.float64),
    )


def train(problem, distillation: str | None) -> Errors:
    """The offline actor loss with its curriculum, as in SPEC section 2, on a small MLP."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        layers = [nn.Linear(4, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 2)]
        network = nn.Sequential(*layers).double()

    def field(a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        out: Tensor = network(torch.cat([a, r, t], dim=-1))
        return out

    test_noise, _ = problem.draw(4096, torch.Generator().manual_seed(SEED + 1000))
    zero = torch.zeros(4096, 1, dtype=torch.float64)
    exact = problem.flow_map(test_noise, zero, zero + 1.0)

    @torch.no_grad()
    def error() -> float:
        return (jump(field, test_noise, zero, zero + 1.0) - exact).square().mean().sqrt().item()

    before = error()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, UPDATES)
    for update in range(UPDATES):
        noise, actions = problem.draw(BATCH, generator)
        draws = torch.rand(BATCH, 4, generator=generator, dtype=torch.float64)
        loss = diagonal_loss(field, noise, actions, draws[:, 2:3])
        factor = interval_factor(update, WARMUP, ANNEAL_END)
        if distillation is not None and factor > 0.0:
            r, t = time_pair(draws[:, :2], factor)
            distil = SELF_DISTILLATION_LOSSES[distillation]
            loss = loss + distil(field, noise, actions, r, t, gamma=draws[:, 3:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return Errors(before, error())


@pytest.fixture(scope="module")
def diagonal_only(problem) -> Errors:
    return train(problem, None)


@pytest.mark.parametrize("distillation", sorted(SELF_DISTILLATION_LOSSES))
def test_training_from_scratch_approaches_the_exact_one_step_map(
    problem, diagonal_only, distillation
):
    errors = train(problem, distillation)
    assert errors.before == diagonal_only.before, "all start from the same network"
    assert errors.before > 0.5
    assert errors.after < ERROR_ALLOWED[distillation]
    assert errors.after < 0.55 * diagonal_only.after
