"""Fixed sinusoidal features of a flow time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def frequencies(size: int) -> Tensor:
    """Log-spaced frequencies from 1 down to 1/10000.

        f_k = 10000^{-k / (size/2 - 1)},   k = 0 ... size/2 - 1

    Args:
        size: Number of features, even, >= 4.
    Returns:
        Shape (size / 2,).
    Raises:
        ValueError: If ``size`` is odd or smaller than 4.
    Source: paper, Table 6 (64 a time axis).
    """
    if size < 4 or size % 2:
        raise ValueError(f"time_embedding_dim={size}: must be even and at least 4, such as 64.")
    half = size // 2
    return torch.exp(-math.log(10_000.0) * torch.arange(half, dtype=torch.float32) / (half - 1))


def sinusoidal_features(time: Tensor, freqs: Tensor) -> Tensor:
    """Embedding of a scalar time.

        F(t) = [cos(f_0 t) ... cos(f_n t), sin(f_0 t) ... sin(f_n t)]

    Args:
        time: Flow time in [0, 1], shape (B, 1).
        freqs: Shape (n,), from ``frequencies``.
    Returns:
        Shape (B, 2 n).
    Source: paper, Appendix H.
    """
    angle = time * freqs
    return torch.cat([angle.cos(), angle.sin()], dim=-1)
