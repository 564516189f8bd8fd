"""Connector that flattens structured observations the way Gymnasium does."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.connectors.connector_v2 import ConnectorV2


class FlattenAsGymnasium(ConnectorV2):
    """First in env-to-module: writes each new observation back as one vector.

    The parts come in the order of the space, as ``gymnasium.spaces.flatten`` puts them, which
    is what evaluation and datasets use. RLlib's own connector sorts them by key, which differs
    for a Dict space made from pairs or keywords.
    """

    def recompute_output_observation_space(
        self, input_observation_space: gym.Space[Any], input_action_space: gym.Space[Any]
    ) -> gym.Space[Any]:
        """An unbounded Box of the flattened size."""
        size = gym.spaces.flatdim(input_observation_space)
        return gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Replace the newest observation of each episode."""
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=True):
            flat = gym.spaces.flatten(self.input_observation_space, episode.get_observations(-1))
            episode.set_observations(at_indices=-1, new_data=np.asarray(flat, np.float32))
            # So that the episode accepts the vector where its space is checked.
            episode.observation_space = self.observation_space
        return batch
