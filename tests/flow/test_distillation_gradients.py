"""What each actor loss computes, term by term, and which side of it carries the gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rllib_fmq.flow import (
    SELF_DISTILLATION_LOSSES,
    diagonal_loss,
    eulerian_loss,
    interpolate,
    jump,
    lagrangian_loss,
    progressive_loss,
)

SIZE = 3
COUNT = 16


@pytest.fixture
def batch(generator) -> dict[str, Tensor]:
    noise, actions = torch.randn(2, COUNT, SIZE, generator=generator, dtype=torch.float64)
    pair = torch.rand(COUNT, 2, generator=generator, dtype=torch.float64).sort(dim=1).values
    return {"noise": noise, "actions": actions, "r": pair[:, :1], "t": pair[:, 1:]}


def central_difference(fn, at: Tensor, step: float = 1e-6) -> Tensor:
    return (fn(at + step) - fn(at - step)) / (2.0 * step)


def test_diagonal_loss_literally(smooth_field, batch):
    field = smooth_field(SIZE)
    noise, actions, t = batch["noise"], batch["actions"], batch["t"]
    a_t = (1.0 - t) * noise + t * actions
    expected = (field(a_t, t, t) - (actions - noise)).square().mean()
    torch.testing.assert_close(diagonal_loss(field, noise, actions, t), expected)


def test_eulerian_student_is_the_primal_of_the_jvp(smooth_field, batch):
    """One run of the network gives the loss that two separate evaluations give."""
    field = smooth_field(SIZE)
    loss = eulerian_loss(field, **batch)
    assert field.calls == 1

    r, t = batch["r"], batch["t"]
    a_r = interpolate(batch["noise"], batch["actions"], r)
    v = batch["actions"] - batch["noise"]
    primals, tangents = (r, t, a_r), (torch.ones_like(r), torch.zeros_like(t), v)
    _, du = torch.func.jvp(lambda r_, t_, a_: field(a_, r_, t_), primals, tangents)
    literal = (field(a_r, r, t) - (v + (t - r) * du).detach()).square().mean()
    torch.testing.assert_close(loss, literal, rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(loss, field.parameters)
    expected = torch.autograd.grad(literal, field.parameters)
    torch.testing.assert_close(gradients, expected, rtol=1e-10, atol=1e-14)


def test_eulerian_loss_by_finite_differences(smooth_field, batch):
    field = smooth_field(SIZE)
    r, t = batch["r"], batch["t"]
    a_r = interpolate(batch["noise"], batch["actions"], r)
    v = batch["actions"] - batch["noise"]
    # The total derivative along the conditional path: r and a move together, t stands still.
    du = central_difference(lambda h: field(a_r + h * v, r + h, t), torch.zeros_like(r))
    expected = (field(a_r, r, t) - (v + (t - r) * du)).square().mean()
    torch.testing.assert_close(eulerian_loss(field, **batch), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("student", ["jump", "composition"])
def test_lagrangian_loss_literally(smooth_field, batch, student):
    field = smooth_field(SIZE)
    r, t = batch["r"], batch["t"]
    a_r = interpolate(batch["noise"], batch["actions"], r)
    d_end = central_difference(lambda t_: jump(field, a_r, r, t_), t)
    expected = (d_end - field(jump(field, a_r, r, t), t, t)).square().mean()
    loss = lagrangian_loss(field, **batch, student=student)
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=0)


def test_lagrangian_gradient_goes_through_the_derivative(smooth_field, batch):
    """Forward over reverse agrees with reverse over the finite difference."""
    field = smooth_field(SIZE)
    r, t = batch["r"], batch["t"]
    a_r = interpolate(batch["noise"], batch["actions"], r)
    d_end = central_difference(lambda t_: jump(field, a_r, r, t_), t)
    tangent = field(jump(field, a_r, r, t), t, t).detach()
    expected = torch.autograd.grad((d_end - tangent).square().mean(), field.parameters)
    gradients = torch.autograd.grad(lagrangian_loss(field, **batch), field.parameters)
    torch.testing.assert_close(gradients, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("student", ["jump", "composition"])
def test_progressive_loss_literally(smooth_field, batch, generator, student):
    """Velocity form times t - r is the difference of one jump and two."""
    field = smooth_field(SIZE)
    r, t = batch["r"], batch["t"]
    gamma = torch.rand(COUNT, 1, generator=generator, dtype=torch.float64)
    a_r = interpolate(batch["noise"], batch["actions"], r)
    w = (1.0 - gamma) * r + gamma * t
    two = jump(field, jump(field, a_r, r, w), w, t)
    expected = ((jump(field, a_r, r, t) - two) / (t - r)).square().mean()
    loss = progressive_loss(field, **batch, gamma=gamma, student=student)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)


def test_progressive_loss_asks_for_gamma(smooth_field, batch):
    with pytest.raises(ValueError, match="gamma"):
        progressive_loss(smooth_field(SIZE), **batch)


# One probe for each place where a loss evaluates the network: a factor in (r, t) makes each
# act at its own place only. All rows share r, w and t.
R, W, T = 0.2, 0.4, 0.7


def probe_gradients(base, loss_fn, factors, batch, **options) -> list[bool]:
    """Whether the loss has a gradient with respect to each probe."""
    probes = [torch.zeros(SIZE, dtype=torch.float64, requires_grad=True) for _ in factors]

    def field(a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        terms = (factor(r, t) * p for factor, p in zip(factors, probes, strict=True))
        return base(a, r, t) + sum(terms)

    r, t = torch.full_like(batch["r"], R), torch.full_like(batch["t"], T)
    loss = loss_fn(field, batch["noise"], batch["actions"], r, t, **options)
    gradients = torch.autograd.grad(loss, probes, allow_unused=True)
    return [g is not None and bool(g.abs().max() > 1e-6) for g in gradients]


@pytest.mark.parametrize(
    ("student", "expected"), [("jump", [True, False]), ("composition", [False, True])]
)
def test_lagrangian_gradient_is_on_the_stated_side(smooth_field, batch, student, expected):
    factors = [lambda r, t: T - r, lambda r, t: r - R]  # of u_{r,t}, of u_{t,t}
    field = smooth_field(SIZE)
    assert probe_gradients(field, lagrangian_loss, factors, batch, student=student) == expected


@pytest.mark.parametrize(
    ("student", "expected"),
    [("jump", [True, False, False]), ("composition", [False, True, True])],
)
def test_progressive_gradient_is_on_the_stated_side(smooth_field, batch, student, expected):
    gamma = torch.full((COUNT, 1), (W - R) / (T - R), dtype=torch.float64)
    factors = [
        lambda r, t: (r - W) * (t - W),  # of u_{r,t}
        lambda r, t: t - T,  # of u_{r,w}
        lambda r, t: r - R,  # of u_{w,t}
    ]
    field = smooth_field(SIZE)
    found = probe_gradients(field, progressive_loss, factors, batch, gamma=gamma, student=student)
    assert found == expected


def diagonal(velocity, noise, actions, r, t, weight, gamma) -> Tensor:
    """The diagonal loss under the signature of the others."""
    return diagonal_loss(velocity, noise, actions, t, weight)


@pytest.mark.parametrize(
    "loss_fn", [diagonal, *SELF_DISTILLATION_LOSSES.values()], ids=lambda fn: fn.__name__
)
def test_padding_does_not_train(smooth_field, batch, generator, loss_fn):
    """Rows of weight 0 change neither the loss nor its gradient, whatever is in them."""
    field = smooth_field(SIZE)
    gamma = torch.rand(COUNT, 1, generator=generator, dtype=torch.float64)
    weight = torch.ones(COUNT, SIZE, dtype=torch.float64)
    weight[4:] = 0.0
    other = dict(batch)
    other["actions"] = batch["actions"].clone()
    other["actions"][4:] = 7.0
    one = loss_fn(field, **batch, weight=weight, gamma=gamma)
    two = loss_fn(field, **other, weight=weight, gamma=gamma)
    assert one > 0.0
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(
        torch.autograd.grad(one, field.parameters), torch.autograd.grad(two, field.parameters)
    )


def test_names_of_the_losses():
    assert {
        "esd": eulerian_loss,
        "lsd": lagrangian_loss,
        "psd": progressive_loss,
    } == SELF_DISTILLATION_LOSSES
