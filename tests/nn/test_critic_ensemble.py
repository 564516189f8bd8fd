"""The stacked critics against separately evaluated networks."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rllib_fmq.nn.critic_ensemble import CriticEnsemble

OBS_DIM, SIZE, COUNT = 5, 6, 9


def make(**options) -> CriticEnsemble:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CriticEnsemble(OBS_DIM, SIZE, **({"hidden_sizes": (16, 24)} | options)).double()


def shake_norms(critics: CriticEnsemble) -> None:
    """Scales and shifts away from 1 and 0, so that a test sees whether they are used."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (*critics.scales, *critics.shifts, *critics.biases):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.3 * noise


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def gelu_exact(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))


def member(
    critics: CriticEnsemble,
    j: int,
    obs: Tensor,
    actions: Tensor,
    *,
    eps: float = 1e-6,
    gelu: Callable[[Tensor], Tensor] = gelu_tanh,
) -> Tensor:
    """Q_j alone: after each hidden layer GELU, then LayerNorm; a linear head."""
    x = torch.cat([obs, actions], dim=-1)
    for layer in range(len(critics.scales)):
        x = gelu(x @ critics.weights[layer][j].T + critics.biases[layer][j])
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        x = centred / (variance + eps).sqrt() * critics.scales[layer][j] + critics.shifts[layer][j]
    return (x @ critics.weights[-1][j].T + critics.biases[-1][j]).squeeze(-1)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(COUNT, OBS_DIM, generator=generator, dtype=torch.float64)
    return obs, torch.rand(COUNT, SIZE, generator=generator, dtype=torch.float64) * 2.0 - 1.0


@pytest.mark.parametrize("num_critics", [1, 2, 5])
@pytest.mark.parametrize(
    ("options", "gelu"),
    [({}, gelu_tanh), ({"gelu": "tanh"}, gelu_tanh), ({"gelu": "none"}, gelu_exact)],
)
def test_ensemble_equals_its_members_evaluated_apart(inputs, num_critics, options, gelu):
    critics = make(num_critics=num_critics, **options)
    shake_norms(critics)
    found = critics(*inputs)
    assert found.shape == (num_critics, COUNT)
    expected = torch.stack([member(critics, j, *inputs, gelu=gelu) for j in range(num_critics)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_epsilon_of_the_layer_norm(inputs):
    """With activations as small as eps, a wrong eps cannot hide."""
    critics = make(hidden_sizes=(16,))
    with torch.no_grad():
        critics.weights[0] *= 1e-3
    found = critics(*inputs)[0]
    torch.testing.assert_close(found, member(critics, 0, *inputs, eps=1e-6), rtol=0, atol=1e-12)
    assert not torch.allclose(found, member(critics, 0, *inputs, eps=1e-5), rtol=0, atol=1e-2)


def test_members_differ(inputs):
    critics = make(num_critics=3)
    values = critics(*inputs)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(values[i], values[j])
        assert not torch.allclose(critics.weights[0][i], critics.weights[0][j])


def test_a_members_loss_trains_that_member_only(inputs):
    critics = make()
    critics(*inputs)[1].square().sum().backward()
    for parameter in critics.parameters():
        assert (parameter.grad[0] == 0.0).all()
    assert all(parameter.grad[1].abs().sum() > 0 for parameter in critics.parameters())


def test_sizes_of_the_paper():
    critics = CriticEnsemble(OBS_DIM, SIZE)
    assert critics.num_critics == 2
    shapes = [tuple(weight.shape) for weight in critics.weights]
    assert shapes == [(2, 512, OBS_DIM + SIZE), *[(2, 512, 512)] * 3, (2, 1, 512)]


def test_kernels_are_uniform_to_the_fan_average_limit_and_biases_zero():
    critics = make(hidden_sizes=(256, 384))
    for weight in critics.weights:
        _, fan_out, fan_in = weight.shape
        limit = math.sqrt(3.0 / ((fan_in + fan_out) / 2.0))
        for kernel in weight.detach():
            # The head has few numbers, so its largest lies further from the limit.
            assert (0.99 if kernel.numel() > 1000 else 0.95) * limit < kernel.abs().max() <= limit
            tolerance = 4.0 / math.sqrt(kernel.numel())
            assert kernel.std().item() == pytest.approx(limit / math.sqrt(3.0), rel=tolerance)
    assert all((bias == 0.0).all() for bias in critics.biases)
    assert all((scale == 1.0).all() for scale in critics.scales)
    assert all((shift == 0.0).all() for shift in critics.shifts)
