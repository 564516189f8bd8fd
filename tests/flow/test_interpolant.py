"""The interpolant, the jump, the masked error; and the closed form the other tests lean on."""

from __future__ import annotations

import pytest
import torch

from rllib_fmq.flow import interpolate, jump, masked_mse


def times(count: int, generator: torch.Generator, columns: int) -> list[torch.Tensor]:
    """Sorted flow times, ``columns`` of them, each of shape (count, 1)."""
    draws = torch.rand(count, columns, generator=generator, dtype=torch.float64)
    return list(draws.sort(dim=1).values.split(1, dim=1))


def test_interpolant_ends_at_noise_and_actions(generator):
    noise, actions = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    zero, half = torch.zeros(5, 1, dtype=torch.float64), torch.full((5, 1), 0.5).double()
    assert torch.equal(interpolate(noise, actions, zero), noise)
    assert torch.equal(interpolate(noise, actions, zero + 1.0), actions)
    torch.testing.assert_close(interpolate(noise, actions, half), 0.5 * (noise + actions))


def test_jump_of_the_average_velocity_is_the_flow_map(gaussian, generator):
    a = 2.0 * torch.randn(64, 3, generator=generator, dtype=torch.float64)
    r, t = times(64, generator, 2)
    torch.testing.assert_close(
        jump(gaussian.velocity, a, r, t), gaussian.flow_map(a, r, t), rtol=0, atol=1e-12
    )


def test_jump_over_no_time_is_the_identity(gaussian, generator):
    a = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    (r,) = times(64, generator, 1)
    assert torch.equal(jump(gaussian.velocity, a, r, r), a)


def test_jumps_of_the_exact_map_compose(gaussian, generator):
    a = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    r, w, t = times(64, generator, 3)
    there = jump(gaussian.velocity, a, r, w)
    torch.testing.assert_close(
        jump(gaussian.velocity, there, w, t),
        jump(gaussian.velocity, a, r, t),
        rtol=0,
        atol=1e-12,
    )


def test_diagonal_of_the_exact_map_is_the_marginal_velocity(gaussian, generator):
    a = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    (t,) = times(64, generator, 1)
    torch.testing.assert_close(
        gaussian.velocity(a, t, t), gaussian.marginal_velocity(a, t), rtol=0, atol=1e-12
    )


def test_exact_map_solves_the_marginal_ode(gaussian, generator):
    a = torch.randn(16, 3, generator=generator, dtype=torch.float64)
    steps = 200
    point, h = a, 1.0 / steps
    for k in range(steps):  # classical Runge-Kutta of da/dt = v_t(a)
        t = torch.full((16, 1), k * h, dtype=torch.float64)
        k1 = gaussian.marginal_velocity(point, t)
        k2 = gaussian.marginal_velocity(point + 0.5 * h * k1, t + 0.5 * h)
        k3 = gaussian.marginal_velocity(point + 0.5 * h * k2, t + 0.5 * h)
        k4 = gaussian.marginal_velocity(point + h * k3, t + h)
        point = point + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    zero = torch.zeros(16, 1, dtype=torch.float64)
    torch.testing.assert_close(
        jump(gaussian.velocity, a, zero, zero + 1.0), point, rtol=0, atol=1e-7
    )


def test_marginal_velocity_is_the_conditional_mean_of_samples(gaussian, generator):
    """E[v f(a_t)] = E[v_t(a_t) f(a_t)] for f in {1, a_t}, which fixes an affine v_t."""
    noise, actions = gaussian.draw(200_000, generator)
    t = torch.full((200_000, 1), 0.35, dtype=torch.float64)
    a_t = interpolate(noise, actions, t)
    excess = actions - noise - gaussian.marginal_velocity(a_t, t)
    for moment in (excess, excess * a_t):
        standard_error = moment.std(dim=0) / 200_000**0.5
        assert (moment.mean(dim=0).abs() < 5.0 * standard_error).all()


def test_masked_mse_leaves_padding_out_and_divides_by_the_full_count():
    prediction = torch.tensor([[1.0, 2.0], [3.0, 100.0]], dtype=torch.float64, requires_grad=True)
    target = torch.zeros(2, 2, dtype=torch.float64)
    weight = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    loss = masked_mse(prediction, target, weight)
    assert loss.item() == pytest.approx((1.0 + 4.0 + 9.0) / 4.0)
    loss.backward()
    torch.testing.assert_close(
        prediction.grad, torch.tensor([[0.5, 1.0], [1.5, 0.0]], dtype=torch.float64)
    )


def test_masked_mse_without_weight_is_the_mean_square(generator):
    prediction, target = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    expected = (prediction - target).square().sum() / 24.0
    torch.testing.assert_close(masked_mse(prediction, target), expected)
    torch.testing.assert_close(masked_mse(prediction, target, torch.ones(6, 4)), expected)


def test_mean_over_shards_is_the_loss_of_the_joined_batch(generator):
    prediction, target = torch.randn(2, 8, 3, generator=generator, dtype=torch.float64)
    weight = (torch.rand(8, 3, generator=generator) < 0.5).double()
    shards = [masked_mse(prediction[s], target[s], weight[s]) for s in (slice(4), slice(4, 8))]
    torch.testing.assert_close(sum(shards) / 2.0, masked_mse(prediction, target, weight))
