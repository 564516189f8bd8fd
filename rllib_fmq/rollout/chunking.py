"""Connectors that let the module plan chunks while environments take primitive steps."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns

from rllib_fmq.nn.flow_map_module import ACTION_CHUNKS, PLANNING_SECONDS

QUEUES = "action_chunk_queues"
"""In a runner's ``shared_data``: episode id -> deque of primitive actions still to come."""
PLANNED_EPISODES = "planned_episode_ids"
"""In ``shared_data``: ids of the episodes that the current forward plans for, in order."""


class PlanRequest(ConnectorV2):
    """Last in env-to-module: keeps the observations of episodes whose queue is empty.

    Queues are keyed by episode id and live in the runner's ``shared_data``, so chunks cross
    fragment borders, and the rest of a chunk is dropped when its episode ends.
    """

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
        """Reduce ``batch["obs"]`` to the rows that need a plan."""
        shared = shared_data if shared_data is not None else {}
        queues: dict[str, deque[NDArray[np.float32]]] = shared.setdefault(QUEUES, {})
        alive = {episode.id_ for episode in episodes if not episode.is_done}
        for finished in [key for key in queues if key not in alive]:
            del queues[finished]
        rows = [
            row
            for row, episode in enumerate(episodes)
            if not episode.is_done and not queues.get(episode.id_)
        ]
        shared[PLANNED_EPISODES] = [episodes[row].id_ for row in rows]
        obs = batch[Columns.OBS]
        batch[Columns.OBS] = obs[torch.as_tensor(rows, dtype=torch.long, device=obs.device)]
        return batch


class PopChunk(ConnectorV2):
    """First in module-to-env: refills the queues and pops one primitive action each."""

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        metrics: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Turn planned chunks into ``batch["actions"]``, one row an environment.

        An environment that is about to be reset (its new episode has no observation yet)
        gets zeros, which its reset ignores.
        """
        shared = shared_data if shared_data is not None else {}
        queues: dict[str, deque[NDArray[np.float32]]] = shared.setdefault(QUEUES, {})
        chunks = batch.pop(ACTION_CHUNKS, None)
        seconds = batch.pop(PLANNING_SECONDS, None)
        if chunks is not None:
            if metrics is not None:
                metrics.log_value("planning_latency_ms", 1e3 * seconds / len(chunks), window=100)
            for episode_id, chunk in zip(
                shared[PLANNED_EPISODES], chunks.cpu().numpy(), strict=True
            ):
                queues[episode_id] = deque(chunk)
        space = self.input_action_space
        actions = np.zeros((len(episodes), *space.shape), dtype=np.float32)
        for row, episode in enumerate(episodes):
            queue = queues.get(episode.id_)
            if queue:
                actions[row] = queue.popleft().reshape(space.shape)
        batch[Columns.ACTIONS] = actions
        return batch
