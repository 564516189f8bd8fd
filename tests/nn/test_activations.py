"""GELU, its derivative and the fused layer, in every form, against torch's in double precision."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rllib_fmq.nn import activations
from rllib_fmq.nn.activations import can_fuse, gelu, gelu_tangent, linear_gelu, pack

FORMS = ["tanh", "none"]
TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-6}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])


@contextmanager
def compiling(compiles: bool):
    """The branch for compiled code, uncompiled."""
    with patch.object(torch.compiler, "is_compiling", lambda: compiles):
        yield


def points(dtype: torch.dtype, count: int = 20_001) -> Tensor:
    """Dense over where GELU bends, and far beyond on both sides."""
    return torch.cat(
        [
            torch.linspace(-12.0, 12.0, count, dtype=dtype),
            torch.tensor([-1e4, -100.0, -30.0, -1e-4, -0.0, 0.0, 1e-30, 30.0, 1e4], dtype=dtype),
        ]
    )


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype, times: float = 1.0) -> None:
    """Error against the larger of 1 and the value."""
    assert found.dtype == dtype
    error = (found.double() - expected).abs() / expected.abs().clamp(min=1.0)
    assert error.max().item() <= times * TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("count", [20_001, 101])
def test_gelu_in_every_branch(dtype, form, compiles, differentiable, count):
    x = points(dtype, count).requires_grad_(differentiable)
    before = x.detach().clone()
    with compiling(compiles):
        found = gelu(x, form)
    assert_close(found.detach(), F.gelu(before.double(), approximate=form), dtype)
    assert torch.equal(x, before)  # its operators work in place, but not on what is given


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compiles", [False, True])
def test_gelu_does_not_disturb_a_tensor_that_others_need(form, compiles):
    """Under no_grad, the large tensor's branch is taken for a tensor in some graph, too."""
    x = points(torch.float64).requires_grad_()
    y = 1.0 * x
    with torch.no_grad(), compiling(compiles):
        gelu(y, form)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, 2.0 * x.detach())


@DTYPES
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compiles", [False, True])
def test_gradient_of_gelu(dtype, form, compiles):
    x = points(dtype).clamp(-100.0, 100.0).requires_grad_()
    with compiling(compiles):
        out = gelu(x, form)
    (found,) = torch.autograd.grad(out.sum(), x)
    exact = x.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(F.gelu(exact, approximate=form).sum(), exact)
    assert_close(found, expected, dtype, times=3.0)  # torch's own form is no closer


@DTYPES
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compiles", [False, True])
def test_gelu_tangent(dtype, form, compiles):
    x = points(dtype).clamp(-100.0, 100.0)
    generator = torch.Generator().manual_seed(0)
    tangent = torch.rand(x.shape, generator=generator, dtype=dtype) * 2.0 - 1.0
    with compiling(compiles):
        found = gelu_tangent(x, tangent, form)
    exact = x.double().requires_grad_()
    out = F.gelu(exact, approximate=form)
    (expected,) = torch.autograd.grad(out, exact, tangent.double())
    assert_close(found, expected, dtype, times=3.0)


@settings(deadline=None)
@given(st.lists(st.floats(-80.0, 80.0), min_size=1, max_size=50), st.sampled_from(FORMS))
def test_gelu_tangent_is_the_derivative_of_gelu(values, form):
    """Of the same branch; a pair that fits only together would not show against torch's."""
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    for compiles in (False, True):
        with compiling(compiles):
            (expected,) = torch.autograd.grad(gelu(x, form).sum(), x)
            found = gelu_tangent(x.detach(), torch.ones(len(values)).double(), form)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_the_rational_tangent_saturates():
    z = torch.linspace(-40.0, 40.0, 100_001)
    found = activations._rational_tanh(z)
    assert (found.double() - torch.tanh(z.double())).abs().max() <= 3e-7
    assert found.abs().max() <= 1.0 + 1e-6
    torch.testing.assert_close(found[z.abs() > 10.0].abs(), torch.ones(int((z.abs() > 10.0).sum())))


def test_forms_differ():
    x = points(torch.float64)
    assert (gelu(x, "tanh") - gelu(x, "none")).abs().max() > 1e-4


@DTYPES
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 5, 127, 128, 300])
@pytest.mark.parametrize("how", ["with a gradient", "without", "packed"])
def test_linear_gelu(dtype, form, rows, how):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 24, generator=generator, dtype=dtype)
    weight = torch.randn(40, 24, generator=generator, dtype=dtype) / 5.0
    bias = torch.randn(40, generator=generator, dtype=dtype)
    expected = F.gelu(F.linear(x.double(), weight.double(), bias.double()), approximate=form)
    with torch.set_grad_enabled(how == "with a gradient"):
        if how == "packed" and can_fuse(x):
            weight = pack(weight, 256)  # for another number of rows than come
        found = linear_gelu(x, weight, bias, form)
    error = (found.double() - expected).abs().max() / expected.abs().max()
    assert error <= (1e-13 if dtype == torch.float64 else 1e-6)


def test_the_fused_product_needs_single_precision_and_no_gradient():
    x = torch.zeros(4, 4)
    assert not can_fuse(x)
    with torch.no_grad():
        assert can_fuse(x) == torch.backends.mkldnn.is_available()
        assert not can_fuse(x.double())
        assert not can_fuse(x.to("meta"))


def test_linear_gelu_keeps_its_gradient():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, generator=generator, dtype=torch.float64, requires_grad=True)
    leaves = (x, weight, bias)
    found = torch.autograd.grad(linear_gelu(*leaves).square().sum(), leaves)
    out = F.gelu(F.linear(*leaves), approximate="tanh")
    expected = torch.autograd.grad(out.square().sum(), leaves)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
