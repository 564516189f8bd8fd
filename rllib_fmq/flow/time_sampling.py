"""Which pairs of flow times (r, t) a loss is trained on, and how that widens in training."""

from __future__ import annotations

import torch
from torch import Tensor


def interval_factor(num_updates: int, warmup_updates: int, anneal_end: int) -> float:
    """How much of the full interval [r, t] is open after some number of updates.

        p = clip((n - n_warmup) / (n_end - n_warmup), 0, 1)

    Args:
        num_updates: n, gradient updates done so far, >= 0.
        warmup_updates: n_warmup; until then only the diagonal r = t is trained.
        anneal_end: n_end >= n_warmup; from then on the full interval is trained.
    Returns:
        p in [0, 1]. 0 says that the self-distillation term is off.
    Raises:
        ValueError: If ``anneal_end`` lies before ``warmup_updates``.
    Source: Appendix H.
    """
    if anneal_end < warmup_updates:
        raise ValueError(
            f"interval_anneal_end={anneal_end} lies before "
            f"diagonal_warmup_updates={warmup_updates}: choose an end at or after the warm-up."
        )
    if num_updates < warmup_updates:
        return 0.0
    if anneal_end == warmup_updates:
        return 1.0
    return min(1.0, (num_updates - warmup_updates) / (anneal_end - warmup_updates))


def time_pair(uniforms: Tensor, factor: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
    """Ordered pair of flow times, shrunk about its midpoint.

        (r0, t0) = sort(x, y);  m = (r0 + t0) / 2;  r = m - p (m - r0);  t = m + p (t0 - m)

    Args:
        uniforms: Two independent U[0, 1] numbers a row, shape (B, 2).
        factor: p in [0, 1], from ``interval_factor``; 0 gives r = t.
    Returns:
        r and t, each of shape (B, 1), with 0 <= r <= t <= 1.
    Source: Appendix H.
    """
    low, high = uniforms.amin(dim=1, keepdim=True), uniforms.amax(dim=1, keepdim=True)
    middle = 0.5 * (low + high)
    half = 0.5 * (high - low) * factor
    return middle - half, torch.maximum(middle + half, middle - half)
