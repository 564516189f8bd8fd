"""A Gaussian problem whose flow map is known in closed form, and a smooth network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


class GaussianFlow:
    """Flow from a_0 ~ N(0, I) to an independent a_1 ~ N(mu, diag(sigma^2)).

    a_t = (1 - t) a_0 + t a_1 has mean and variance, per dimension,

        m_t = t mu,   s_t^2 = (1 - t)^2 + t^2 sigma^2.

    (v, a_t) is jointly Gaussian with v = a_1 - a_0 and cov(v, a_t) = t sigma^2 - (1 - t), so

        v_t(a) = E[v | a_t = a] = mu + (t sigma^2 - (1 - t)) / s_t^2 (a - m_t).

    That factor is s_t' / s_t, so (a - m_t) / s_t is constant along a trajectory:

        X_{r,t}(a) = m_t + s_t / s_r (a - m_r).

    The average velocity (X_{r,t}(a) - a) / (t - r) has the factor t - r divided out by hand,

        u_{r,t}(a) = mu + ((t + r) sigma^2 - (2 - t - r)) / (s_r (s_t + s_r)) (a - m_r),

    so that it is smooth, and exact, on the diagonal too.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    @property
    def size(self) -> int:
        return self.mean.shape[0]

    def scale(self, t: Tensor) -> Tensor:
        """s_t."""
        return ((1.0 - t).square() + (t * self.std).square()).sqrt()

    def marginal_velocity(self, a: Tensor, t: Tensor) -> Tensor:
        """v_t(a)."""
        slope = (t * self.std.square() - (1.0 - t)) / self.scale(t).square()
        return self.mean + slope * (a - t * self.mean)

    def conditional_std(self, t: Tensor) -> Tensor:
        """Standard deviation of v given a_t."""
        covariance = t * self.std.square() - (1.0 - t)
        explained = (covariance / self.scale(t)).square()
        return (1.0 + self.std.square() - explained).clamp(min=0.0).sqrt()

    def flow_map(self, a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        """X_{r,t}(a)."""
        return t * self.mean + self.scale(t) / self.scale(r) * (a - r * self.mean)

    def velocity(self, a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        """u_{r,t}(a)."""
        s_r, s_t = self.scale(r), self.scale(t)
        slope = ((t + r) * self.std.square() - (2.0 - t - r)) / (s_r * (s_t + s_r))
        return self.mean + slope * (a - r * self.mean)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise and actions, each (count, A)."""
        shape = (count, self.size)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        unit = torch.randn(shape, generator=generator, dtype=torch.float64)
        return noise, self.mean + self.std * unit


class SmoothField:
    """A small nonlinear velocity field with parameters, for checks of derivatives."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        def parameter(*shape: int) -> Tensor:
            values = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return values.requires_grad_(True)

        self.mix, self.out = parameter(size, 8), parameter(8, size)
        self.start, self.end, self.bias = parameter(8), parameter(8), parameter(8)
        self.parameters = [self.mix, self.out, self.start, self.end, self.bias]
        self.calls = 0

    def __call__(self, a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return torch.tanh(a @ self.mix + r * self.start + t * self.end + self.bias) @ self.out


@pytest.fixture(scope="session")
def gaussian_type() -> type[GaussianFlow]:
    return GaussianFlow


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def gaussian() -> GaussianFlow:
    return GaussianFlow(
        torch.tensor([0.6, -1.3, 0.0], dtype=torch.float64),
        torch.tensor([0.2, 1.0, 2.5], dtype=torch.float64),
    )


@pytest.fixture
def narrow_gaussian() -> GaussianFlow:
    """Actions well inside the box [-1, 1], as the selectors see them."""
    return GaussianFlow(
        torch.tensor([0.4, -0.3], dtype=torch.float64),
        torch.tensor([0.1, 0.15], dtype=torch.float64),
    )


@pytest.fixture
def smooth_field(generator: torch.Generator) -> Callable[[int], SmoothField]:
    """Makes a ``SmoothField`` for actions of some size."""
    return lambda size: SmoothField(size, generator)
