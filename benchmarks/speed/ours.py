"""This package's update and decision, without RLlib around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.problem import Method, Sizes
from rllib_fmq import FMQConfig, MVPConfig, QCConfig
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn import compilation
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.nn.objectives import UpdateContext, WindowBatch, training_losses

CONFIGS: dict[Method, type[FlowMapConfig]] = {"FMQ": FMQConfig, "MVP": MVPConfig, "QC": QCConfig}


def make_config(sizes: Sizes, method: Method = "FMQ", target_candidates: int = 32) -> FlowMapConfig:
    """The method's defaults with the networks of ``sizes``.

    Args:
        sizes: Of networks and batch.
        method: "FMQ", "MVP" or "QC".
        target_candidates: N of the critic target; 1 is "sample" for FMQ and MVP.
    """
    config: FlowMapConfig = CONFIGS[method]().training(
        horizon_length=sizes.horizon,
        actor_hidden=sizes.hidden,
        critic_hidden=sizes.hidden,
        time_embedding_dim=sizes.time_features,
        num_critics=sizes.num_critics,
        train_batch_size_per_learner=sizes.batch_size,
        target_num_candidates=target_candidates,
    )
    if target_candidates == 1 and method != "QC":
        config.training(target_selector="sample")
    return config


def spaces(sizes: Sizes) -> tuple[gym.spaces.Box, gym.spaces.Box]:
    """Of observations and of primitive actions."""
    return (
        gym.spaces.Box(-np.inf, np.inf, (sizes.obs_dim,), np.float32),
        gym.spaces.Box(-1.0, 1.0, (sizes.action_dim,), np.float32),
    )


def make_module(config: FlowMapConfig, sizes: Sizes, seed: int = 0) -> FlowMapModule:
    """The module that a learner would build."""
    observation_space, action_space = spaces(sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FlowMapModule(
            observation_space=observation_space,
            action_space=action_space,
            model_config=config._model_config_auto_includes,
        )


class OurLoop:
    """One method's module, optimiser and update, as ``FlowMapLearner`` has them.

    Args:
        sizes: Of networks and batch.
        method: "FMQ", "MVP" or "QC".
        online: Whether the online phase's actor loss applies.
        target_candidates: N of the critic target.
        compiled: Whether the losses are compiled.
        seed: Of the weights and of all noise.
    """

    def __init__(
        self,
        sizes: Sizes,
        method: Method,
        online: bool,
        target_candidates: int,
        compiled: bool = False,
        seed: int = 0,
    ) -> None:
        config = make_config(sizes, method, target_candidates)
        self.module = make_module(config, sizes, seed)
        params = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(params, lr=config.lr, fused=True)
        self.context = UpdateContext(
            settings=config.loss_settings(),
            online=online,
            interval_factor=1.0,
            condition=False,
            generator=torch.Generator().manual_seed(seed),
            global_mean=lambda value: value,
            compiled=compiled,
        )
        self.tau = config.tau

    def update(self, batch: WindowBatch) -> Tensor:
        """One gradient update and Polyak step; returns the loss, detached."""
        losses, _ = training_losses(self.module, batch, self.context)
        loss = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.module.update_target_critics(self.tau)
        return loss.detach()


def to_windows(arrays: Mapping[str, np.ndarray]) -> WindowBatch:
    """Tensors of ``problem.random_batch``'s arrays."""
    return WindowBatch(**{name: torch.from_numpy(value) for name, value in arrays.items()})


def selector_settings(config: Any, kind: str) -> SelectorSettings:
    """A selector with the config's numbers."""
    config.evaluation_selector = kind
    settings: SelectorSettings = config.selector("evaluation")
    return settings


def allow_many_graphs() -> None:
    """One process measures more modules than a run has: keep the compiled code of all."""
    torch._dynamo.config.recompile_limit = 256
    torch._dynamo.config.accumulated_recompile_limit = 2048


def fell_back() -> bool:
    """Whether compiling failed, so that "compiled" cells ran eagerly."""
    return bool(compilation._failed)
