"""The actor network against its formula, written out with plain tensor operations."""

from __future__ import annotations

import math
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.func import jvp

from rllib_fmq.flow import eulerian_loss
from rllib_fmq.nn.velocity_field import VelocityField
from tests.nn.straightforward import shake_

OBS_DIM, SIZE, COUNT = 5, 6, 9


def make(**options) -> VelocityField:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VelocityField(OBS_DIM, SIZE, **({"hidden_sizes": (16, 24)} | options)).double()


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def gelu_exact(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))


def embed(time: Tensor, size: int = 64) -> Tensor:
    half = size // 2
    freqs = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / (half - 1))
    return torch.cat([(time * freqs).cos(), (time * freqs).sin()], dim=-1)


def linears(field: VelocityField) -> list[nn.Linear]:
    return [layer for layer in field.modules() if isinstance(layer, nn.Linear)]


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(COUNT, OBS_DIM, generator=generator, dtype=torch.float64)
    a_r = torch.randn(COUNT, SIZE, generator=generator, dtype=torch.float64)
    pair = torch.rand(COUNT, 2, generator=generator, dtype=torch.float64).sort(dim=1).values
    return obs, a_r, pair[:, :1], pair[:, 1:]


@pytest.mark.parametrize(
    ("options", "gelu"),
    [({}, gelu_tanh), ({"gelu": "tanh"}, gelu_tanh), ({"gelu": "none"}, gelu_exact)],
)
def test_forward_by_formula(inputs, options, gelu):
    """MLP([s, a_r, F(r), F(t)]): GELU, by default in its tanh form, after each hidden layer."""
    field = make(**options)
    obs, a_r, r, t = inputs
    x = torch.cat([obs, a_r, embed(r), embed(t)], dim=-1)
    *hidden, last = linears(field)
    for layer in hidden:
        x = gelu(x @ layer.weight.T + layer.bias)
    expected = x @ last.weight.T + last.bias
    found = field(*inputs)
    assert found.shape == (COUNT, SIZE)
    # The module keeps its frequencies in single precision.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_sizes_of_the_paper():
    field = VelocityField(OBS_DIM, SIZE)
    sizes = [(layer.in_features, layer.out_features) for layer in linears(field)]
    assert sizes == [(OBS_DIM + SIZE + 128, 512), *[(512, 512)] * 3, (512, SIZE)]


def test_the_actor_has_no_normalisation():
    names = {type(module).__name__ for module in make().modules()}
    assert names == {"VelocityField", "Sequential", "Linear", "GELU"}


def test_kernels_are_uniform_to_the_fan_average_limit_and_biases_zero():
    field = make(hidden_sizes=(256, 384))
    for layer in linears(field):
        limit = math.sqrt(3.0 / ((layer.in_features + layer.out_features) / 2.0))
        weight = layer.weight.detach()
        assert 0.99 * limit < weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / math.sqrt(3.0), rel=0.03)
        assert abs(weight.mean().item()) < 0.05 * limit
        assert (layer.bias == 0.0).all()


def test_conditioning_axis_takes_two_more_inputs_and_defaults_to_zero(inputs):
    field = make(conditioning=True)
    obs, a_r, r, t = inputs
    first = linears(field)[0]
    assert first.in_features == OBS_DIM + 2 * SIZE + 3 * 64
    t_c, a_c = torch.full_like(r, 0.7), torch.ones_like(a_r)
    default = field(obs, a_r, r, t)
    assert torch.equal(default, field(obs, a_r, r, t, (0.0 * t_c, 0.0 * a_c)))
    conditioned = field(obs, a_r, r, t, (t_c, a_c))
    assert not torch.allclose(default, conditioned)
    x = torch.cat([obs, a_r, embed(r), embed(t), embed(t_c), a_c], dim=-1)
    *hidden, last = linears(field)
    for layer in hidden:
        x = gelu_tanh(x @ layer.weight.T + layer.bias)
    torch.testing.assert_close(conditioned, x @ last.weight.T + last.bias, rtol=0, atol=1e-6)


def test_the_eulerian_loss_trains_every_parameter(inputs):
    field = make()
    obs, noise, r, t = inputs
    actions = torch.tanh(noise.flip(0))
    loss = eulerian_loss(lambda a, r_, t_: field(obs, a, r_, t_), noise, actions, r, t)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in field.parameters())


# --- The derivative beside the forward pass ------------------------------------------------


@pytest.mark.parametrize("gelu", ["tanh", "none"])
@pytest.mark.parametrize("conditioning", [False, True])
@pytest.mark.parametrize("hidden", [(16,), (16, 24), (8, 8, 8, 8)])
@pytest.mark.parametrize("rows", [1, 4, COUNT])
@pytest.mark.parametrize("compiles", [False, True])
def test_with_tangent(inputs, gelu, conditioning, hidden, rows, compiles):
    """u is the forward pass's, with its gradients; du is what forward-mode autograd gives."""
    field = make(gelu=gelu, conditioning=conditioning, hidden_sizes=hidden)
    shake_(field, torch.Generator().manual_seed(1))
    obs, a_r, r, t = inputs
    velocity = torch.flip(a_r, [1])[-rows:]
    condition = (torch.flip(t, [0]), torch.tanh(a_r.flip(0)))
    for given in (None, condition) if conditioning else (None,):
        last = None if given is None else tuple(part[-rows:] for part in given)
        expected_u, expected_du = jvp(
            lambda r_, a_, last=last: field(obs[-rows:], a_, r_, t[-rows:], last),
            (r[-rows:], a_r[-rows:]),
            (torch.ones_like(r[-rows:]), velocity),
        )
        with patch.object(torch.compiler, "is_compiling", lambda: compiles):
            u, du = field.with_tangent(obs, a_r, r, t, velocity, given)
        torch.testing.assert_close(du, expected_du.detach(), rtol=1e-10, atol=1e-12)
        assert not du.requires_grad
        forward = field(obs, a_r, r, t, given)
        torch.testing.assert_close(u, forward, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(u[-rows:], expected_u, rtol=1e-10, atol=1e-12)
        parameters = list(field.parameters())
        found = torch.autograd.grad(u.square().sum(), parameters)
        expected = torch.autograd.grad(forward.square().sum(), parameters)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_tangent_depends_on_start_time_and_action_only(inputs):
    """A central difference along (1, 0, v), so that no forward mode judges another."""
    field = make()
    obs, a_r, r, t = inputs
    v, h = a_r.flip(1), 1e-5
    _, du = field.with_tangent(obs, a_r, r, t, v)
    with torch.no_grad():
        after, before = (field(obs, a_r + s * v, r + s, t) for s in (h, -h))
    torch.testing.assert_close(du, (after - before) / (2.0 * h), rtol=1e-6, atol=1e-8)
