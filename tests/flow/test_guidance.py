"""Theorem 3.2 against numerical maximisers, and what the critic's gradient touches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rllib_fmq.flow import q_gradient, reference_action, trust_region_target

SIZE = 5
COUNT = 12
TINY = 1e-300
"""A kappa_1 that vanishes beside any gradient here, so that the theorem holds exactly."""

Value = Callable[[Tensor], Tensor]


class Trial:
    """Interpolants, flow times and reference velocities of a few rows."""

    def __init__(self, generator: torch.Generator) -> None:
        self.a_r = torch.randn(COUNT, SIZE, generator=generator, dtype=torch.float64)
        self.r = torch.rand(COUNT, 1, generator=generator, dtype=torch.float64)
        self.reference = torch.randn(COUNT, SIZE, generator=generator, dtype=torch.float64)

    def end(self, velocity: Tensor) -> Tensor:
        """a_1 of a velocity, without the clip that the theorem does not know."""
        return self.a_r + (1.0 - self.r) * velocity

    def target(self, value: Value, radius: float | Tensor) -> Tensor:
        def critic(actions: Tensor) -> tuple[Tensor, Tensor]:
            q = value(actions)
            return q, q

        _, gradient = q_gradient(critic, self.end(self.reference))
        return trust_region_target(self.reference, gradient, radius, TINY)


@pytest.fixture
def trial(generator) -> Trial:
    return Trial(generator)


@pytest.fixture
def slopes(generator) -> Tensor:
    """A linear critic for each row, of very different steepness."""
    scale = torch.logspace(-6, 6, COUNT, dtype=torch.float64).unsqueeze(1)
    return scale * torch.randn(COUNT, SIZE, generator=generator, dtype=torch.float64)


def project(displacement: Tensor, radius: float) -> Tensor:
    norm = displacement.norm(dim=-1, keepdim=True)
    return displacement * (radius / norm.clamp(min=radius))


def maximise_over_ball(
    value: Value, trial: Trial, radius: float, step: float | Tensor, start: Tensor
) -> Tensor:
    """Projected gradient ascent on Q(a_r + (1 - r) u) over |u - u_off| <= radius."""
    displacement = project(start, radius)
    for _ in range(400):
        point = displacement.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(value(trial.end(trial.reference + point)).sum(), point)
        displacement = project(displacement + step * slope, radius)
    return trial.reference + displacement


@pytest.mark.parametrize("radius", [0.05, 1.0, 3.0])
def test_linear_critic_the_target_is_the_maximiser_over_the_ball(trial, slopes, generator, radius):
    def value(actions: Tensor) -> Tensor:
        return (slopes * actions).sum(dim=-1)

    start = torch.randn(COUNT, SIZE, generator=generator, dtype=torch.float64)
    step = radius / ((1.0 - trial.r) * slopes.norm(dim=-1, keepdim=True))
    found = maximise_over_ball(value, trial, radius, step, start)
    torch.testing.assert_close(trial.target(value, radius), found, rtol=0, atol=1e-10)


def test_linear_critic_random_search_never_beats_the_target(trial, slopes, generator):
    radius = 0.7

    def value(actions: Tensor) -> Tensor:
        return (slopes * actions).sum(dim=-1)

    best = value(trial.end(trial.target(value, radius)))
    steepness = slopes.norm(dim=-1)
    closest = torch.full((COUNT,), torch.inf, dtype=torch.float64)
    for draw in range(2_000):
        direction = torch.randn(COUNT, SIZE, generator=generator, dtype=torch.float64)
        length = torch.rand(COUNT, 1, generator=generator, dtype=torch.float64)
        # Half of them on the sphere, half uniform in the ball.
        length = length ** (1.0 / SIZE) if draw % 2 else torch.ones_like(length)
        inside = radius * length * direction / direction.norm(dim=-1, keepdim=True)
        gap = (best - value(trial.end(trial.reference + inside))) / steepness
        assert (gap >= -1e-12).all()
        closest = torch.minimum(closest, gap)
    assert closest.min() < 0.1 * radius, "the search came near, so it was a fair one"


def test_displacement_has_the_norm_of_the_radius(trial, slopes, generator):
    radii = torch.rand(COUNT, 1, generator=generator, dtype=torch.float64) + 0.01
    for radius in (0.3, torch.tensor(2.0, dtype=torch.float64), radii):
        target = trust_region_target(trial.reference, slopes, radius, TINY)
        norm = (target - trial.reference).norm(dim=-1, keepdim=True)
        expected = torch.as_tensor(radius, dtype=torch.float64).expand(COUNT, 1)
        torch.testing.assert_close(norm, expected, rtol=1e-12, atol=0)


def test_stability_constant_by_hand():
    reference = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    gradient = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    target = trust_region_target(reference, gradient, 2.0, grad_eps=5.0)
    torch.testing.assert_close(target, torch.tensor([[1.6, 1.8]], dtype=torch.float64))


def test_flat_critic_leaves_the_reference():
    reference = torch.ones(2, SIZE, dtype=torch.float64)
    target = trust_region_target(reference, torch.zeros_like(reference), 1.0)
    assert torch.equal(target, reference)


def test_target_carries_no_gradient(trial, slopes):
    reference = trial.reference.clone().requires_grad_(True)
    assert not trust_region_target(reference, slopes, 1.0).requires_grad


def curved_critic(generator: torch.Generator) -> Value:
    mix = torch.randn(SIZE, 16, generator=generator, dtype=torch.float64)
    out = torch.randn(16, generator=generator, dtype=torch.float64)
    return lambda actions: torch.tanh(actions @ mix / SIZE**0.5) @ out


def test_nonlinear_critic_the_target_is_first_order_optimal(trial, generator):
    """The displacement is the steepest of all directions, and parallel to the gradient (KKT)."""
    value, radius, h = curved_critic(generator), 0.4, 1e-5
    displacement = trial.target(value, radius) - trial.reference

    def slope(direction: Tensor) -> Tensor:
        ahead = value(trial.end(trial.reference + h * direction))
        behind = value(trial.end(trial.reference - h * direction))
        return (ahead - behind) / (2.0 * h)

    steepest = slope(displacement / radius)
    for _ in range(500):
        direction = torch.randn(COUNT, SIZE, generator=generator, dtype=torch.float64)
        assert (slope(direction / direction.norm(dim=-1, keepdim=True)) <= steepest + 1e-9).all()
    basis = torch.eye(SIZE, dtype=torch.float64)
    gradient = torch.stack([slope(axis.expand(COUNT, SIZE)) for axis in basis], dim=-1)
    torch.testing.assert_close(
        displacement, radius * gradient / gradient.norm(dim=-1, keepdim=True), rtol=0, atol=1e-7
    )


def test_nonlinear_critic_the_loss_to_the_maximiser_is_of_second_order(trial, generator):
    """max_ball Q - Q(target) falls like radius^2, while the gain itself falls like radius."""
    square = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    curvature = square @ square.T / SIZE + torch.eye(SIZE, dtype=torch.float64)
    centre = 2.0 * torch.randn(SIZE, generator=generator, dtype=torch.float64)

    def value(actions: Tensor) -> Tensor:
        offset = actions - centre
        return -0.5 * ((offset @ curvature) * offset).sum(dim=-1)

    gaps, gains = [], []
    for radius in (0.02, 0.01):
        target = trial.target(value, radius)
        found = maximise_over_ball(value, trial, radius, step=0.1, start=target - trial.reference)
        base = value(trial.end(trial.reference))
        reached, best = value(trial.end(target)), value(trial.end(found))
        gaps.append(best - reached)
        gains.append(best - base)
    assert (gaps[0] > 0).all() and (gains[1] > 0).all()
    assert (gaps[1] < 0.3 * gaps[0]).all(), "a second-order gap shrinks fourfold"
    assert (gaps[1] < 0.02 * gains[1]).all()


def test_reference_action_by_hand_and_clipped():
    a_r = torch.tensor([[0.5, 0.5, -0.5]], dtype=torch.float64)
    r = torch.tensor([[0.75]], dtype=torch.float64)
    velocity = torch.tensor([[1.0, 4.0, -40.0]], dtype=torch.float64)
    expected = torch.tensor([[0.75, 1.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(reference_action(a_r, r, velocity), expected)


def make_ensemble() -> nn.ModuleList:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        members = [nn.Sequential(nn.Linear(SIZE, 8), nn.Tanh(), nn.Linear(8, 1)) for _ in range(2)]
    return nn.ModuleList(members).double()


@pytest.mark.parametrize("enabled", [True, False])
def test_q_gradient_of_the_guide_only_and_nothing_else_is_touched(generator, enabled):
    ensemble = make_ensemble()
    actions = torch.randn(COUNT, SIZE, generator=generator, dtype=torch.float64)
    actions.requires_grad_(True)

    def critic(a: Tensor) -> tuple[Tensor, Tensor]:
        values = torch.stack([member(a).squeeze(-1) for member in ensemble])
        return values, values[0]

    with torch.set_grad_enabled(enabled):
        values, gradient = q_gradient(critic, actions)
        assert torch.is_grad_enabled() is enabled

    torch.testing.assert_close(values, critic(actions)[0].detach())
    assert not values.requires_grad and not gradient.requires_grad
    assert actions.grad is None
    assert all(parameter.grad is None for parameter in ensemble.parameters())

    first, _, last = ensemble[0]
    hidden = torch.tanh(actions @ first.weight.T + first.bias)
    by_hand = ((1.0 - hidden.square()) * last.weight) @ first.weight
    torch.testing.assert_close(gradient, by_hand.detach())
