"""Mean velocity policy: the one-step baseline."""

from __future__ import annotations

from typing import Any

from rllib_fmq.algorithms.algorithm import FlowMapAlgorithm
from rllib_fmq.algorithms.config import FlowMapConfig


class MVPConfig(FlowMapConfig):
    """Offline: diagonal plus ESD. Online: the same losses towards its own best-of-N."""

    online_objective = "generate_and_select"

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or MVP)


class MVP(FlowMapAlgorithm):
    """Mean velocity policy with generate-and-select (Zhan et al. 2026; Appendix H)."""

    @classmethod
    def get_default_config(cls) -> MVPConfig:
        """Paper's settings."""
        return MVPConfig()
