"""FMQ and QGBS for Ray RLlib: offline-to-online RL with one-step flow-map policies.

Importing this package registers the algorithms FMQ, QGBS, MVP and QC with RLlib and Tune.
"""

from rllib_fmq._version import __version__
from rllib_fmq.algorithms import (
    FMQ,
    MVP,
    QC,
    QGBS,
    FMQConfig,
    MVPConfig,
    QCConfig,
    QGBSConfig,
)
from rllib_fmq.registration import ALGORITHMS, register_algorithms

__all__ = [
    "ALGORITHMS",
    "FMQ",
    "MVP",
    "QC",
    "QGBS",
    "FMQConfig",
    "MVPConfig",
    "QCConfig",
    "QGBSConfig",
    "__version__",
    "register_algorithms",
]

register_algorithms()
