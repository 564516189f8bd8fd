"""The four methods as RLlib algorithms."""

from rllib_fmq.algorithms.fmq import FMQ, FMQConfig
from rllib_fmq.algorithms.mvp import MVP, MVPConfig
from rllib_fmq.algorithms.qc import QC, QCConfig
from rllib_fmq.algorithms.qgbs import QGBS, QGBSConfig

__all__ = ["FMQ", "MVP", "QC", "QGBS", "FMQConfig", "MVPConfig", "QCConfig", "QGBSConfig"]
