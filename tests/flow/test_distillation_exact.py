"""ESD, LSD and PSD at the exact flow map of a Gaussian: their residuals are zero there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rllib_fmq.flow import (
    diagonal_loss,
    eulerian_loss,
    interpolate,
    lagrangian_loss,
    progressive_loss,
)

COUNT = 128
TOLERANCE = 1e-10


def largest_residual_bound(loss: Tensor, size: int) -> float:
    """Root of the sum of squares: no single residual of the batch can be larger."""
    return (loss * COUNT * size).sqrt().item()


def ordered_times(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """r <= t and gamma, with the corners of [0, 1]^2 among them."""
    pair = torch.rand(COUNT, 2, generator=generator, dtype=torch.float64).sort(dim=1).values
    pair[:3] = torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    gamma = torch.rand(COUNT, 1, generator=generator, dtype=torch.float64)
    gamma[0], gamma[3], gamma[4] = 0.5, 0.0, 1.0
    return pair[:, :1], pair[:, 1:], gamma


def perturbed(velocity: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The map with an error that vanishes on the diagonal, where only these losses can see it."""
    return lambda a, r, t: velocity(a, r, t) + 0.5 * (t - r) * torch.sin(a)


@pytest.mark.parametrize("student", ["jump", "composition"])
@pytest.mark.parametrize("loss_fn", [lagrangian_loss, progressive_loss])
def test_lagrangian_and_progressive_residuals_vanish(gaussian, generator, loss_fn, student):
    noise, actions = gaussian.draw(COUNT, generator)
    r, t, gamma = ordered_times(generator)
    exact = loss_fn(gaussian.velocity, noise, actions, r, t, gamma=gamma, student=student)
    assert largest_residual_bound(exact, gaussian.size) < TOLERANCE
    wrong = perturbed(gaussian.velocity)
    assert loss_fn(wrong, noise, actions, r, t, gamma=gamma, student=student) > 1e-4


def test_eulerian_residual_vanishes_along_the_marginal_velocity(gaussian, generator):
    """The loss takes v = a_1 - a_0, so noise and actions are placed on the line a + (s - r) v."""
    first, second = gaussian.draw(COUNT, generator)
    r, t, _ = ordered_times(generator)
    a_r = interpolate(first, second, r)
    v = gaussian.marginal_velocity(a_r, r)
    noise, actions = a_r - r * v, a_r + (1.0 - r) * v
    exact = eulerian_loss(gaussian.velocity, noise, actions, r, t)
    assert largest_residual_bound(exact, gaussian.size) < TOLERANCE
    assert eulerian_loss(perturbed(gaussian.velocity), noise, actions, r, t) > 1e-4


def test_expected_eulerian_gradient_vanishes_with_the_conditional_velocity(gaussian, generator):
    """The target is affine in v, so two nodes at mean +- std integrate p(v | a_r) exactly."""
    first, second = gaussian.draw(COUNT, generator)
    r, t, _ = ordered_times(generator)
    a_r = interpolate(first, second, r)
    mean, std = gaussian.marginal_velocity(a_r, r), gaussian.conditional_std(r)

    def gradient(nodes: list[Tensor], error: float = 0.0) -> Tensor:
        """Mean over the nodes of dL/dp, for u + p (t, r)-dependent features of a."""
        probe = torch.full((4, gaussian.size), error, dtype=torch.float64, requires_grad=True)

        def field(a: Tensor, r: Tensor, t: Tensor) -> Tensor:
            basis = (torch.ones_like(a), a, (t - r) * torch.sin(a), (t * r) * a.square())
            return gaussian.velocity(a, r, t) + sum(
                p * b for p, b in zip(probe, basis, strict=True)
            )

        losses = [eulerian_loss(field, a_r - r * v, a_r + (1.0 - r) * v, r, t) for v in nodes]
        (grad,) = torch.autograd.grad(sum(losses) / len(losses), probe)
        return grad

    assert gradient([mean + std, mean - std]).abs().max() < TOLERANCE
    # Neither node alone is stationary, nor is a wrong map.
    assert gradient([mean + std]).abs().max() > 1e-2
    assert gradient([mean + std, mean - std], error=0.1).abs().max() > 1e-2


def test_sampled_eulerian_gradient_vanishes_within_its_error(gaussian, generator):
    """The same with honest samples (a_0, a_1): the gradient of each row, averaged."""
    count = 100_000
    noise, actions = gaussian.draw(count, generator)
    pair = torch.rand(count, 2, generator=generator, dtype=torch.float64).sort(dim=1).values
    probe = torch.zeros(count, gaussian.size, dtype=torch.float64, requires_grad=True)

    def field(a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return gaussian.velocity(a, r, t) + probe * a

    loss = eulerian_loss(field, noise, actions, pair[:, :1], pair[:, 1:])
    (rows,) = torch.autograd.grad(loss * count, probe)
    assert (rows.mean(dim=0).abs() < 5.0 * rows.std(dim=0) / count**0.5).all()


def test_expected_diagonal_gradient_vanishes_at_the_marginal_velocity(gaussian, generator):
    count = 100_000
    noise, actions = gaussian.draw(count, generator)
    t = torch.rand(count, 1, generator=generator, dtype=torch.float64)
    probe = torch.zeros(count, gaussian.size, dtype=torch.float64, requires_grad=True)
    loss = diagonal_loss(lambda a, r, t: gaussian.velocity(a, r, t) + probe * a, noise, actions, t)
    (rows,) = torch.autograd.grad(loss * count, probe)
    assert (rows.mean(dim=0).abs() < 5.0 * rows.std(dim=0) / count**0.5).all()
