"""Q-chunking with a multi-step flow: the many-step baseline."""

from __future__ import annotations

from typing import Any

from rllib_fmq.algorithms.algorithm import FlowMapAlgorithm
from rllib_fmq.algorithms.config import FlowMapConfig


class QCConfig(FlowMapConfig):
    """Flow matching on the diagonal, offline and online; acts by Euler and best-of-N."""

    online_objective = "imitation"

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or QC)
        self.lambda_sd = 0.0
        self.collection_selector = "euler"
        self.target_selector = "euler"
        self.evaluation_selector = "euler"

    def validate(self) -> None:
        """QC learns no jumps, so what needs them is refused."""
        super().validate()
        if self.lambda_sd:
            raise ValueError(
                f"lambda_sd={self.lambda_sd}: QC trains the diagonal only. Use MVP or FMQ for "
                "self-distillation."
            )
        for use in ("collection", "target", "evaluation"):
            if self.selector(use).kind != "euler":
                raise ValueError(
                    f"{use}_selector={getattr(self, use + '_selector')!r}: QC's network knows the "
                    "diagonal only, so use 'euler' (with num_candidates for best-of-N)."
                )


class QC(FlowMapAlgorithm):
    """Q-chunking (Li et al. 2025): 10 Euler steps, best of 32."""

    @classmethod
    def get_default_config(cls) -> QCConfig:
        """Paper's settings."""
        return QCConfig()
