"""Policies outside the training cluster: export, a small runtime, an HTTP service."""

from rllib_fmq.serving.policy import Policy

__all__ = ["Policy"]
