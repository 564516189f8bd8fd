"""The mathematics of flow-map policies, as pure tensor functions.

Nothing here knows of RLlib, configs or environments: tensors in, tensors out, random
numbers as arguments or from an explicit ``torch.Generator``. Flow time is ``r`` and ``t``
and runs from noise (0) to actions (1); it is never environment time.
"""

from rllib_fmq.flow.critic import bellman_target, chunk_return, critic_loss
from rllib_fmq.flow.distillation import (
    SELF_DISTILLATION_LOSSES,
    diagonal_loss,
    eulerian_loss,
    lagrangian_loss,
    progressive_loss,
)
from rllib_fmq.flow.guidance import (
    adaptive_radius,
    critic_disagreement,
    q_gradient,
    reference_action,
    trust_region_target,
)
from rllib_fmq.flow.interpolant import interpolate, jump, masked_mse
from rllib_fmq.flow.selection import (
    SELECTORS,
    SelectionResult,
    SelectorSettings,
    best_of_n,
    euler,
    qgbs,
    sample,
    select_actions,
)
from rllib_fmq.flow.time_sampling import interval_factor, time_pair

__all__ = [
    "SELECTORS",
    "SELF_DISTILLATION_LOSSES",
    "SelectionResult",
    "SelectorSettings",
    "adaptive_radius",
    "bellman_target",
    "best_of_n",
    "chunk_return",
    "critic_disagreement",
    "critic_loss",
    "diagonal_loss",
    "euler",
    "eulerian_loss",
    "reference_action",
    "interpolate",
    "interval_factor",
    "jump",
    "lagrangian_loss",
    "masked_mse",
    "progressive_loss",
    "q_gradient",
    "qgbs",
    "sample",
    "select_actions",
    "time_pair",
    "trust_region_target",
]
