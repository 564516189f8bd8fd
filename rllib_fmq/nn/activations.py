"""GELU, its derivative, and a linear layer fused with it, each in the form that runs fastest."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SCALE = 2.0 * math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715
_MANY = 4096
"""Numbers from which a handful of vectorised operators beat torch's own tanh form on a CPU."""


def gelu(x: Tensor, form: str = "tanh") -> Tensor:
    """Gaussian error linear unit.

        x / 2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))          form = "tanh", the paper's
          = x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))
        x Phi(x)                                                  form = "none", exact

    Compiled code, and large tensors on a CPU without a gradient, take the second line, whose
    exponential vectorises better than the tangent.

    Args:
        x: Any shape.
        form: "tanh" or "none", as torch names them.
    Returns:
        Shape of ``x``.
    Source: Table 6; the identity tanh(z) = 2 sigmoid(2 z) - 1.
    """
    if form == "tanh" and torch.compiler.is_compiling():
        z = _SCALE * (x + _CUBIC * x * x * x)
        if x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled():
            return 0.5 * x * (1.0 + _rational_tanh(0.5 * z))
        return x * torch.sigmoid(z)
    if (
        form == "tanh"
        and x.numel() >= _MANY
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
    ):
        gate = x * x
        gate.mul_(_SCALE * _CUBIC).add_(_SCALE).mul_(x).sigmoid_()
        return gate.mul_(x)
    return F.gelu(x, approximate=form)


# Minimax coefficients of tanh in float32 on [-7.9, 7.9] (1 beyond, to the last bit), as in Eigen:
# z P(z^2) / Q(z^2), highest power first.
_TANH_END = 7.90531110763549805
_TANH_P = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


def _rational_tanh(z: Tensor) -> Tensor:
    z = z.clamp(-_TANH_END, _TANH_END)
    square = z * z
    top, bottom = torch.full_like(z, _TANH_P[0]), torch.full_like(z, _TANH_Q[0])
    for coefficient in _TANH_P[1:]:
        top = top * square + coefficient
    for coefficient in _TANH_Q[1:]:
        bottom = bottom * square + coefficient
    return z * top / bottom


def gelu_tangent(x: Tensor, tangent: Tensor, form: str = "tanh") -> Tensor:
    """Directional derivative of GELU, which is also its vector-Jacobian product.

        gelu'(x) * tangent

    Args:
        x: Any shape.
        tangent: Shape of ``x``.
        form: See ``gelu``.
    Returns:
        Shape of ``x``.
    Source: derivative of ``gelu``.
    """
    if form == "tanh" and torch.compiler.is_compiling():
        cubic = _CUBIC * x * x
        gate = torch.sigmoid(_SCALE * (x + cubic * x))
        slope = _SCALE * (1.0 + 3.0 * cubic)
        return tangent * (gate + x * gate * (1.0 - gate) * slope)
    out: Tensor = torch.ops.aten.gelu_backward(tangent, x, approximate=form)
    return out


class GELU(nn.Module):
    """``gelu`` as a module.

    Args:
        form: "tanh" or "none".
    """

    def __init__(self, form: str = "tanh") -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        """Apply ``gelu``."""
        return gelu(x, self.form)


def can_fuse(x: Tensor) -> bool:
    """Whether oneDNN's product with a GELU in its epilogue serves: float32 on a CPU, no gradient.

    The operator is torch's own, what its compiler emits for CPUs; builds without oneDNN lack it.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and _HAS_ONEDNN
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


FUSED_ROWS = 128
"""Rows from which the fused product is faster although it reorders the weights."""

_HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(
    torch.ops.mkldnn, "_reorder_linear_weight"
)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor, form: str = "tanh") -> Tensor:
    """Linear layer followed by GELU.

        gelu(x W^T + b)

    Args:
        x: Shape (B, in).
        weight: W, shape (out, in), or from ``pack``.
        bias: Shape (out,).
        form: See ``gelu``.
    Returns:
        Shape (B, out).
    Source: ours.
    """
    if torch.compiler.is_compiling():
        return gelu(F.linear(x, weight, bias), form)
    if weight.is_mkldnn or (x.shape[0] >= FUSED_ROWS and can_fuse(x)):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], form)
        return out
    return gelu(F.linear(x, weight, bias), form)


def pack(weight: Tensor, rows: int) -> Tensor:
    """A weight in the order in which the fused product reads it, for use in several blocks.

    Args:
        weight: Shape (out, in), float32 on the CPU, where ``can_fuse``.
        rows: Of the blocks.
    Returns:
        An opaque tensor for ``linear_gelu``.
    Source: ours.
    """
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return packed
