"""Confidence intervals of success rates."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

        (p + z^2 / 2n  +-  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Unlike the normal approximation it stays inside [0, 1] and has a width where all or none
    of the episodes succeed.

    Args:
        successes: In [0, n].
        n: Episodes, >= 1.
        confidence: Coverage in (0, 1).
    Returns:
        Lower and upper bound, each in [0, 1].
    Raises:
        ValueError: If a number is out of its range.
    Source: Wilson 1927.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(
            f"successes={successes} of n={n}: expected n >= 1 and 0 <= successes <= n."
        )
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: must lie in (0, 1).")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the two terms cancel up to rounding.
    lower = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    upper = 1.0 if successes == n else min(1.0, (centre + half) / scale)
    return lower, upper
