"""The RLModule of all four methods: actor, critics, target critics, reference actor."""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from rllib_fmq.flow.selection import (
    NoiseSource,
    SelectionResult,
    SelectorSettings,
    select_bound,
)
from rllib_fmq.nn.critic_ensemble import CriticEnsemble
from rllib_fmq.nn.network_policy import NetworkPolicy
from rllib_fmq.nn.network_views import NetworkViews
from rllib_fmq.nn.objectives import UpdateContext, WindowBatch, training_losses
from rllib_fmq.nn.velocity_field import VelocityField

ACTION_CHUNKS = "action_chunks"
"""Module output: planned chunks in [-1, 1], shape (rows planned, H, d)."""
PLANNING_SECONDS = "planning_seconds"
"""Module output: wall time of that planning, float."""
WINDOWS = "windows"
CONTEXT = "context"
LOSSES = "losses"
METRICS = "metrics"


class FlowMapModule(TorchRLModule, InferenceOnlyAPI):
    """Flow-map policy with its critics.

    ``forward_exploration`` and ``forward_inference`` plan one chunk of ``horizon_length``
    primitive actions for each observation in the batch, with the selector that the config
    names for collection and for evaluation. Env-runners hold the actor and the critics
    (best-of-N and QGBS need them); target critics and the reference actor stay on learners.

    Raises:
        ValueError: If the observation space is not a 1-D Box or the action space not a
            bounded Box.
    """

    def setup(self) -> None:
        """Build the networks from the spaces and ``model_config``."""
        config = self.model_config
        obs_dim, action_dim = check_spaces(self.observation_space, self.action_space)
        self.horizon_length: int = config["horizon_length"]
        self.action_dim = action_dim
        self.action_size = self.horizon_length * action_dim
        self.scoring = config["scoring"]
        self.collection_selector = SelectorSettings(**config["collection_selector"])
        self.evaluation_selector = SelectorSettings(**config["evaluation_selector"])
        self.actor = VelocityField(
            obs_dim,
            self.action_size,
            config["actor_hidden"],
            config["time_embedding_dim"],
            config["conditioning_axis"],
            config["gelu"],
        )
        self.critics = CriticEnsemble(
            obs_dim,
            self.action_size,
            config["critic_hidden"],
            config["num_critics"],
            config["gelu"],
        )
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.reference_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self._planning_generator: torch.Generator | None = None
        self._planning_views: NetworkViews | None = None

    def get_non_inference_attributes(self) -> list[str]:
        """Parts that env-runners do without."""
        return ["target_critics", "reference_actor"]

    def seed_planning(self, seed: int) -> None:
        """Restart the noise that planning draws.

        Args:
            seed: Any int; the same seed, weights and observations give the same chunks.
        """
        device = next(self.actor.parameters()).device
        self._planning_generator = torch.Generator(device).manual_seed(seed % 2**63)

    def planning_state(self) -> NDArray[np.uint8]:
        """Where the noise that planning draws stands."""
        return self._planning_noise().get_state().numpy()

    def set_planning_state(self, state: NDArray[np.uint8]) -> None:
        """Go on with the noise of ``planning_state``, on a device of the same type."""
        self._planning_noise().set_state(torch.from_numpy(np.array(state)))

    def _planning_noise(self) -> torch.Generator:
        if self._planning_generator is None:
            # Env-runners are seeded one by one by RLlib; torch's seed carries that over.
            self.seed_planning(torch.initial_seed())
        assert self._planning_generator is not None
        return self._planning_generator

    def plan(
        self, obs: Tensor, selector: SelectorSettings, generator: NoiseSource = None
    ) -> SelectionResult:
        """Choose one chunk for each observation.

        Args:
            obs: Shape (N, o).
            selector: Which selector, with its numbers.
            generator: Source of the noise; None: the module's own.
        Returns:
            Chunks (N, H * d) in [-1, 1], their values, and the NFE.
        """
        if generator is None:
            generator = self._planning_noise()
        obs = obs.float()
        with torch.no_grad():
            policy = NetworkPolicy(self._views(), obs, self.scoring)
            return select_bound(selector, policy, obs, self.action_size, generator)

    def _views(self) -> NetworkViews:
        views = self._planning_views
        if views is None or not views.are_of(self.actor, self.critics):
            obs_dim = self.observation_space.shape[0]
            views = NetworkViews(self.actor, self.critics, obs_dim, keep_packed=True)
            self._planning_views = views
        return views

    def __getstate__(self) -> dict[str, Any]:
        """Copies gather their own views."""
        return self.__dict__ | {"_planning_views": None}

    @torch.no_grad()
    def copy_to_reference(self) -> None:
        """Freeze the actor as the reference of the online phase (u_off <- u)."""
        self.reference_actor.load_state_dict(self.actor.state_dict())

    @torch.no_grad()
    def update_target_critics(self, tau: float) -> None:
        """Polyak step: Qbar <- (1 - tau) Qbar + tau Q.

        Args:
            tau: In (0, 1].
        """
        torch._foreach_lerp_(
            list(self.target_critics.parameters()), list(self.critics.parameters()), tau
        )

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._plan_rows(batch, self.collection_selector)

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._plan_rows(batch, self.evaluation_selector)

    def _plan_rows(self, batch: dict[str, Any], selector: SelectorSettings) -> dict[str, Any]:
        obs = batch[Columns.OBS]
        if obs.shape[0] == 0:
            return {}
        start = time.perf_counter()
        chunks = self.plan(obs, selector).actions
        return {
            ACTION_CHUNKS: chunks.view(-1, self.horizon_length, self.action_dim),
            PLANNING_SECONDS: time.perf_counter() - start,
        }

    def train(self, mode: bool = True) -> FlowMapModule:
        """As torch's, which would walk through all layers in every update for nothing."""
        if mode != self.training:
            super().train(mode)
        return self

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        self._planning_views = None  # an optimiser's step follows
        windows: WindowBatch = batch[WINDOWS]
        context: UpdateContext = batch[CONTEXT]
        losses, metrics = training_losses(self, windows, context)
        return {LOSSES: losses, METRICS: metrics}


def check_spaces(
    observation_space: gym.Space[Any], action_space: gym.Space[Any]
) -> tuple[int, int]:
    """Sizes of the observation and the primitive action.

    Args:
        observation_space: Must be a 1-D Box (Dict observations are flattened before).
        action_space: Must be a Box with finite bounds.
    Returns:
        obs_dim and action_dim.
    Raises:
        ValueError: Otherwise.
    """
    if (
        not isinstance(observation_space, gym.spaces.Box)
        or len(observation_space.shape) != 1
        or not observation_space.shape[0]
    ):
        raise ValueError(
            f"observation space {observation_space} is not supported: expected a 1-D Box, or a "
            "Dict of 1-D Boxes. Flatten other observations with a wrapper."
        )
    if (
        not isinstance(action_space, gym.spaces.Box)
        or not np.issubdtype(action_space.dtype, np.floating)
        or not np.prod(action_space.shape)
    ):
        raise ValueError(
            f"action space {action_space} is not supported: flow-map policies are continuous, "
            "so a bounded Box is expected."
        )
    if not (np.isfinite(action_space.low).all() and np.isfinite(action_space.high).all()):
        raise ValueError(
            f"action space {action_space} is unbounded: actions are scaled to [-1, 1], so finite "
            "bounds are needed. Wrap the environment, for instance in gymnasium's RescaleAction."
        )
    if not (action_space.low < action_space.high).all():
        raise ValueError(
            f"action space {action_space} has a dimension without room (low >= high): remove it "
            "with a wrapper."
        )
    return observation_space.shape[0], int(np.prod(action_space.shape))


def selector_dict(settings: SelectorSettings) -> dict[str, Any]:
    """A plain dict for ``model_config``."""
    return dataclasses.asdict(settings)
