"""From the config's dataset to a filled replay."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from rllib_fmq.data.loading import check_fits, load_dataset, scale_actions
from rllib_fmq.data.table import TransitionTable
from rllib_fmq.learner.mapped_rows import MappedRows
from rllib_fmq.learner.replay import ReplayTable

NO_DATASET = "none"


def load_replay(
    config: Any,
    observation_space: gym.spaces.Box,
    action_space: gym.spaces.Box,
    device: torch.device | str,
) -> tuple[ReplayTable, str]:
    """Make the replay of a run and seed it with its offline data.

    A dataset of mapped columns stays on disk, and ``replay_capacity`` is then that of the online
    rows alone.

    Args:
        config: With ``dataset``, ``dataset_dir``, ``dataset_filter``, ``env``,
            ``replay_capacity``, ``online_env_steps``.
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
    # Room for one fragment more than the phase asks for: fragments end on whole rounds.
    online = config.online_env_steps + config.online_steps_per_round()
    if config.dataset is None:
        wanted = max(1, config.online_env_steps) + config.online_steps_per_round()
        capacity = min(config.replay_capacity, wanted)
        return ReplayTable(capacity, obs_dim, action_dim, device), NO_DATASET
    table = load_dataset(
        config.dataset,
        str(config.env),
        data_dir=config.dataset_dir,
        filter_key=config.dataset_filter,
    )
    check_fits(table, observation_space, flat_actions)
    _check_horizon(table, config.horizon_length)
    scale = partial(scale_actions, low=flat_actions.low, high=flat_actions.high)
    fingerprint = table.fingerprint
    if table.mapped:
        capacity = max(1, min(config.replay_capacity, online))
        rows = MappedRows(table, scale)
        return ReplayTable(capacity, obs_dim, action_dim, device, offline=rows), fingerprint
    capacity = max(table.num_steps, min(config.replay_capacity, table.num_steps + online))
    replay = ReplayTable(capacity, obs_dim, action_dim, device)
    columns = table.columns()
    del table  # so that each column is freed as soon as it is copied
    replay.add_offline(columns, scale)
    return replay, fingerprint


def _check_horizon(table: TransitionTable, horizon: int) -> None:
    longest = int(np.diff(np.flatnonzero(table.episode_end), prepend=-1).max())
    if longest < horizon:
        raise ValueError(
            f"horizon_length={horizon}, but the longest episode of "
            f"{table.source} has {longest} steps: no window is complete, so the critic could "
            "never be trained. Use a shorter horizon_length."
        )
