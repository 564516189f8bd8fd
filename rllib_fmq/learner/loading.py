"""From the config's dataset to a filled replay."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from rllib_fmq.data.loading import check_fits, load_dataset, scale_actions
from rllib_fmq.learner.replay import ReplayTable

NO_DATASET = "none"


def load_replay(
    config: Any,
    observation_space: gym.spaces.Box,
    action_space: gym.spaces.Box,
    device: torch.device | str,
) -> tuple[ReplayTable, str]:
    """Make the replay of a run and seed it with its offline data.

    Args:
        config: With ``dataset``, ``dataset_dir``, ``env``, ``replay_capacity``,
            ``online_env_steps``.
        observation_space: 1-D Box.
        action_space: Bounded Box.
        device: Of the learner.
    Returns:
        The replay, and the dataset's fingerprint ("none" without a dataset).
    Raises:
        FileNotFoundError: If there is no such dataset.
        ValueError: If the dataset is broken or does not fit the environment.
    """
    flat_actions = gym.spaces.Box(
        action_space.low.ravel(), action_space.high.ravel(), dtype=np.float32
    )
    obs_dim, action_dim = observation_space.shape[0], flat_actions.shape[0]
    if config.dataset is None:
        wanted = max(1, config.online_env_steps) + config.online_steps_per_round()
        capacity = min(config.replay_capacity, wanted)
        return ReplayTable(capacity, obs_dim, action_dim, device), NO_DATASET
    table = load_dataset(config.dataset, str(config.env), data_dir=config.dataset_dir)
    check_fits(table, observation_space, flat_actions)
    longest = int(np.diff(np.flatnonzero(table.episode_end), prepend=-1).max())
    if longest < config.horizon_length:
        raise ValueError(
            f"horizon_length={config.horizon_length}, but the longest episode of "
            f"{table.source} has {longest} steps: no window is complete, so the critic could "
            "never be trained. Use a shorter horizon_length."
        )
    # Room for one fragment more than the phase asks for: fragments end on whole rounds.
    wanted = table.num_steps + config.online_env_steps + config.online_steps_per_round()
    capacity = max(table.num_steps, min(config.replay_capacity, wanted))
    replay = ReplayTable(capacity, obs_dim, action_dim, device)
    replay.add_offline(
        table.obs,
        scale_actions(table.actions, flat_actions.low, flat_actions.high),
        table.rewards,
        table.terminated,
        table.episode_end,
        table.final_obs,
    )
    return replay, table.fingerprint
