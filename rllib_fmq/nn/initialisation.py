"""Kernel initialisation shared by the networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def variance_scaling_(weight: Tensor, fan_in: int, fan_out: int) -> Tensor:
    """Fill with uniform variance scaling, fan-average, scale 1.

        w ~ U[-l, l],   l = sqrt(3 / ((fan_in + fan_out) / 2))

    Args:
        weight: Any shape; filled in place.
        fan_in: Inputs of one unit.
        fan_out: Outputs of one unit.
    Returns:
        ``weight``.
    Source: SPEC section 5 (Flax's ``variance_scaling(1, "fan_avg", "uniform")``).
    """
    limit = math.sqrt(6.0 / (fan_in + fan_out))
    with torch.no_grad():
        return weight.uniform_(-limit, limit)
