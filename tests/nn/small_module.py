"""A small module, its config, and windows to train it on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rllib_fmq import FMQConfig
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.nn.flow_map_module import (
    CONTEXT,
    LOSSES,
    METRICS,
    WINDOWS,
    FlowMapModule,
)
from rllib_fmq.nn.objectives import UpdateContext, WindowBatch

OBS_DIM, ACTION_DIM, HORIZON, BATCH = 4, 2, 3, 6
SIZE = HORIZON * ACTION_DIM
OBS_SPACE = gym.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float64)
ACTION_SPACE = gym.spaces.Box(-2.0, 3.0, (ACTION_DIM,), np.float32)
GAMMA = 0.9


def make_config(config_class: type[FlowMapConfig] = FMQConfig, **training: Any) -> FlowMapConfig:
    small: dict[str, Any] = {
        "horizon_length": HORIZON,
        "actor_hidden": (16, 16),
        "critic_hidden": (16, 16),
        "num_candidates": 3,
        "euler_steps": 4,
        "gamma": GAMMA,
    }
    return config_class().training(**(small | training))


def make_module(config: FlowMapConfig, inference_only: bool = False) -> FlowMapModule:
    spec = config.get_rl_module_spec(
        spaces={"default_policy": (OBS_SPACE, ACTION_SPACE)}, inference_only=inference_only
    )
    torch.manual_seed(0)
    module: FlowMapModule = spec.build()
    if not inference_only:
        # As after some training: nothing equals anything by construction.
        with torch.no_grad():
            for part in (module.target_critics, module.reference_actor):
                for parameter in part.parameters():
                    parameter.add_(0.1 * torch.randn(parameter.shape))
    return module


def make_context(config: FlowMapConfig, **changes: Any) -> UpdateContext:
    context = UpdateContext(
        settings=config.loss_settings(),
        online=False,
        interval_factor=1.0,
        condition=False,
        generator=torch.Generator().manual_seed(5),
        global_mean=lambda value: value,
    )
    return replace(context, **changes)


def make_windows() -> WindowBatch:
    noise = torch.Generator().manual_seed(9)
    valid = torch.ones(BATCH, HORIZON)
    valid[0, 1:] = 0.0  # one window is cut short by its episode's end
    terminated = torch.zeros(BATCH, HORIZON, dtype=torch.bool)
    terminated[0, 0] = terminated[1, 2] = terminated[2, 1] = True
    mask = valid.repeat_interleave(ACTION_DIM, dim=1)
    return WindowBatch(
        obs=torch.randn(BATCH, OBS_DIM, generator=noise),
        actions=(2.0 * torch.rand(BATCH, SIZE, generator=noise) - 1.0) * mask,
        valid=mask,
        rewards=torch.randn(BATCH, HORIZON, generator=noise) * valid,
        terminated=terminated,
        next_obs=torch.randn(BATCH, OBS_DIM, generator=noise),
        complete=valid[:, -1],
    )


def compute(
    module: FlowMapModule, context: UpdateContext
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    out = module.forward_train({WINDOWS: make_windows(), CONTEXT: context})
    return out[LOSSES], out[METRICS]
