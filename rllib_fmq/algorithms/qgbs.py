"""FMQ that searches when it is evaluated."""

from __future__ import annotations

from typing import Any

from rllib_fmq.algorithms.algorithm import FlowMapAlgorithm
from rllib_fmq.algorithms.config import FlowMapConfig


class QGBSConfig(FlowMapConfig):
    """Trains as FMQ; evaluates with Q-guided beam search (K=1, M=4, B=4)."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or QGBS)
        self.evaluation_selector = "qgbs"


class QGBS(FlowMapAlgorithm):
    """FMQ + Q-Guided Beam Search at evaluation (Alg. 1 and 2).

    Any checkpoint of FMQ or MVP can be searched too, without training:
    ``rllib evaluate CHECKPOINT --selector qgbs``.
    """

    @classmethod
    def get_default_config(cls) -> QGBSConfig:
        """Paper's settings."""
        return QGBSConfig()
