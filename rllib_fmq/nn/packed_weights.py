"""Weights kept in the order in which MKL multiplies, for as long as they do not change."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_HAS_MKL = (
    hasattr(torch.ops.mkl, "_mkl_linear")
    and hasattr(torch.ops.mkl, "_mkl_reorder_linear_weight")
    and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
)


class PackedWeights:
    """Linear layers of few rows, many times with the same weights.

    Such a product costs what reading its weight costs; MKL reads it in one pass if the weight
    was packed for the number of rows before. A weight is packed when it is used a second time.
    What is not float32 on a CPU, or a build without MKL, goes the usual way.

    Args:
        parameters: What the weights are, or are views of.
    Source: ours; the operators are torch's own, what its compiler emits for CPUs.
    """

    def __init__(self, parameters: list[Tensor]) -> None:
        self._parameters = parameters
        self._serves = _HAS_MKL and all(
            p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters
        )
        self._versions: list[int] = []
        self._seen: set[tuple[int, int]] = set()
        self._packed: dict[tuple[int, int], Tensor] = {}

    def refresh(self) -> bool:
        """Forget what was packed if any parameter was written to since.

        Returns:
            Whether one was.
        """
        versions = [p._version for p in self._parameters]
        if versions == self._versions:
            return False
        self._versions = versions
        self._seen.clear()
        self._packed.clear()
        return True

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Linear layer, without a gradient.

            x W^T + b

        Args:
            x: Shape (B, in).
            weight: A parameter, or the same view object of one in each call, shape (out, in).
            bias: Shape (out,).
        Returns:
            Shape (B, out).
        """
        rows = x.shape[0]
        key = (id(weight), rows)
        packed = self._packed.get(key)
        if packed is None:
            if not self._serves or key not in self._seen:
                self._seen.add(key)
                return F.linear(x, weight, bias)
            packed = torch.ops.mkl._mkl_reorder_linear_weight(weight.contiguous(), rows)
            self._packed[key] = packed
        out: Tensor = torch.ops.mkl._mkl_linear(x, packed, weight, bias, rows)
        return out
