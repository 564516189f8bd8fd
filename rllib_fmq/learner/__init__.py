"""The Learner and the replay that lives in it."""

from rllib_fmq.learner.flow_map_learner import FlowMapLearner
from rllib_fmq.learner.replay import ReplayTable

__all__ = ["FlowMapLearner", "ReplayTable"]
