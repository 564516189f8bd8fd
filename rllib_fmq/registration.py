"""Makes the four methods known to RLlib and Tune by name."""

from __future__ import annotations

from functools import partial
from typing import Any

from ray.rllib.algorithms import registry as rllib_registry
from ray.tune.registry import register_trainable

from rllib_fmq.algorithms import FMQ, MVP, QC, QGBS

ALGORITHMS: dict[str, type[Any]] = {"FMQ": FMQ, "QGBS": QGBS, "MVP": MVP, "QC": QC}


def _load(name: str) -> tuple[type[Any], Any]:
    return ALGORITHMS[name], ALGORITHMS[name].get_default_config()


def register_algorithms() -> None:
    """Register with Tune (now) and with RLlib's own list (for after a ``ray.shutdown``)."""
    for name, algorithm in ALGORITHMS.items():
        rllib_registry.ALGORITHMS.setdefault(name, partial(_load, name))
        register_trainable(name, algorithm)
