"""Flow Map Q-Guidance."""

from __future__ import annotations

from typing import Any

from rllib_fmq.algorithms.algorithm import FlowMapAlgorithm
from rllib_fmq.algorithms.config import FlowMapConfig


class FMQConfig(FlowMapConfig):
    """Offline: diagonal plus self-distillation. Online: the Q-guided trust-region target."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or FMQ)


class FMQ(FlowMapAlgorithm):
    """Flow Map Q-Guidance (Alg. 1).

        L(theta) = | u_{r,1}(a_r) - sg(u_off_{r,1}(a_r) + eta_eff g / (|g|_2 + kappa_1)) |^2

    Source: Eq. 12 and 13.
    """

    @classmethod
    def get_default_config(cls) -> FMQConfig:
        """Paper's settings."""
        return FMQConfig()
