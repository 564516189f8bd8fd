"""Networks: the velocity field, the critic ensemble, and the RLModule that holds them."""

from rllib_fmq.nn.critic_ensemble import CriticEnsemble
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.nn.time_features import sinusoidal_features
from rllib_fmq.nn.velocity_field import VelocityField

__all__ = ["CriticEnsemble", "FlowMapModule", "VelocityField", "sinusoidal_features"]
