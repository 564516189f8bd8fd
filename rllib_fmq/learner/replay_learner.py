"""The Learner's replay: filled from the dataset and by fragments, saved and restored."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_fmq.learner.lean_torch_learner import LeanTorchLearner
from rllib_fmq.learner.loading import load_replay
from rllib_fmq.learner.online_rows import from_version_1
from rllib_fmq.learner.replay import ReplayTable

if TYPE_CHECKING:  # it imports this package, for the replay
    from rllib_fmq.checkpointing.replay_store import ReplayStore


class ReplayLearner(LeanTorchLearner):
    """A learner that keeps the whole replay on its own device."""

    replay: ReplayTable
    dataset_fingerprint: str

    def store(self, episodes: Sequence[SingleAgentEpisode]) -> None:
        """Append episode fragments to the replay.

        Args:
            episodes: As env-runners return them, actions in [-1, 1].
        """
        for episode in episodes:
            if len(episode) == 0:
                continue
            num = len(episode)
            self.replay.add_fragment(
                episode.id_,
                np.asarray(episode.get_observations()),
                np.asarray(episode.get_actions()).reshape(num, -1),
                np.asarray(episode.get_rewards()),
                terminated=episode.is_terminated,
                done=episode.is_done,
            )

    def save_replay(self, store: ReplayStore, known: Mapping[str, Any] | None) -> dict[str, Any]:
        """Write the online rows that a store does not hold yet: ``ReplayStore.write``."""
        return store.write(self.replay, known)

    def load_replay(self, store: ReplayStore, index: Mapping[str, Any]) -> None:
        """Replace the online rows by saved ones; unfinished episodes may go on.

        Args:
            store: Where they are.
            index: From ``save_replay``.
        Raises:
            FileNotFoundError: If a segment is missing.
            ValueError: If one is damaged, or they do not fit this run.
        """
        store.read(self._fresh_replay(), index)

    def keep_open_episodes(self, ids: Collection[str]) -> int:
        """``ReplayTable.keep_open_episodes``."""
        return self.replay.keep_open_episodes(ids)

    def _load_version_1_replay(self, state: Mapping[str, Any]) -> None:
        counts, rows = from_version_1(state)
        self._fresh_replay().restore(counts, [rows])
        self.keep_open_episodes(())  # such a checkpoint does not tell which of them go on

    def _load_replay(self) -> None:
        module = self.flow_module
        self.replay, self.dataset_fingerprint = load_replay(
            self.config,
            observation_space=module.observation_space,
            action_space=module.action_space,
            device=self._device,
        )

    def _fresh_replay(self) -> ReplayTable:
        """The replay with nothing but its offline rows."""
        if self.replay.num_online:
            del self.replay  # two of them may not fit into memory
            self._load_replay()
        return self.replay
