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
MOST_ROW_COUNTS = 8
"""Numbers of rows that are packed for at a time: each takes the memory of the weights once more."""


class PackedWeights:
    """Linear layers of few rows, many times with the same weights.

    Such a product costs what reading its weight costs; MKL reads it in one pass if the weight
    was packed for the number of rows before. Sums are taken in another order than usual, so every
    product of a number of rows is packed, the first too: results do not depend on what came before.
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
        self._trained = False
        self._packed: dict[tuple[int, int], Tensor] = {}
        self._row_counts: set[int] = set()

    def refresh(self) -> bool:
        """Forget what was packed if any parameter was, or may have been, written to since.

        Fused optimisers write without a trace, so parameters with a gradient count as written to,
        and are not packed.

        Returns:
            Whether one was.
        """
        versions = [p._version for p in self._parameters]
        self._trained = any(p.grad is not None for p in self._parameters)
        if versions == self._versions and not self._trained:
            return False
        self._versions = versions
        self._packed.clear()
        self._row_counts.clear()
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
            if not self._serves or self._trained:
                return F.linear(x, weight, bias)
            if rows not in self._row_counts and len(self._row_counts) == MOST_ROW_COUNTS:
                self._packed.clear()
                self._row_counts.clear()
            self._row_counts.add(rows)
            packed = torch.ops.mkl._mkl_reorder_linear_weight(weight.contiguous(), rows)
            self._packed[key] = packed
        out: Tensor = torch.ops.mkl._mkl_linear(x, packed, weight, bias, rows)
        return out
