"""The env-runner of all methods: survives faulty environments, and can be resumed exactly."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import Any

import gymnasium as gym
import ray
from gymnasium.wrappers.vector import DictInfoToList
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner import ENV_STEP_FAILURE
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.utils.metrics import ENV_RESET_TIMER, ENV_STEP_TIMER

from rllib_fmq.rollout.episode_replay import FAULT_KIND, FAULT_MESSAGE, ReplayableEnv, SeedPlace
from rllib_fmq.rollout.faults import CRASH, EnvFaultLimitError, describe
from rllib_fmq.rollout.make_env import env_maker
from rllib_fmq.rollout.vector_processes import end_processes

ENV_FAULTS = "env_faults"
"""Metric: faults of each kind, over the whole run."""
NUM_ENV_FAULTS = "num_env_faults"
NUM_ENV_STEPS_DROPPED = "num_env_steps_dropped"
NUM_EPISODES_NOT_RESUMED = "num_episodes_not_resumed"

logger = logging.getLogger(__name__)


class FlowMapEnvRunner(SingleAgentEnvRunner):
    """RLlib's runner; every sub-environment is a ``ReplayableEnv``.

    An episode in which its environment failed is not returned: what earlier fragments of it
    delivered stays, the rest is dropped and counted, and no callback takes it for an episode
    that ended. The other sub-environments go on undisturbed.

    Args:
        config: A ``FlowMapConfig``.
        **kwargs: RLlib's.
    Raises:
        EnvFaultLimitError: From ``sample``, where no environment survives its first reset, or
            one of them failed ``max_env_faults`` times without finishing an episode.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        index = kwargs.get("worker_index") or 0
        self._restarted = index > 0 and _actor_was_restarted()
        self.seed_place = SeedPlace(
            entropy=_fresh_entropy() if config.seed is None else config.seed,
            evaluating=bool(config.in_evaluation),
            # The first remote runner stands for the local one, which collects only without it.
            worker_index=max(0, index - 1),
            generation=_fresh_entropy() if self._restarted else 0,
        )
        self._ever_reset = False
        self._faulty: set[str] = set()
        """Ids of episodes that are not to be returned."""
        self.faults_in_a_row: list[int] = []
        """Of each sub-environment, since it last finished an episode."""
        self._dropped = 0
        self._limit: EnvFaultLimitError | None = None
        """Reached while nobody asked for samples."""
        super().__init__(config=config, **kwargs)
        if self.module is not None:
            place = self.seed_place
            # A runner that died had drawn noise that must not come again.
            own = _fresh_entropy() if self._restarted else place.entropy + place.worker_index
            self.module.seed_planning(own)

    @property
    def awaits_weights(self) -> bool:
        """Whether Ray restarted this process, and nobody has sent it the policy yet."""
        return self._restarted and self._weights_seq_no == 0

    def make_env(self) -> None:
        """RLlib's, each sub-environment in a ``ReplayableEnv``."""
        self._close_env()
        config = self.config
        context = config.env_config
        if not isinstance(context, EnvContext):
            context = EnvContext(
                context,
                worker_index=self.worker_index,
                num_workers=self.num_workers,
                remote=config.remote_worker_envs,
            )
        make = env_maker(config.env, context)
        place, remember = self.seed_place, config.resume_episodes
        timeout_s = config.env_step_timeout_s
        functions = [
            lambda k=k: ReplayableEnv(make, k, place, remember=remember, timeout_s=timeout_s)
            for k in range(config.num_envs_per_env_runner)
        ]
        parallel = gym.VectorizeMode(config.gym_env_vectorize_mode) == gym.VectorizeMode.ASYNC
        kind = gym.vector.AsyncVectorEnv if parallel else gym.vector.SyncVectorEnv
        self.env = DictInfoToList(kind(functions))
        self.num_envs = len(functions)
        self.faults_in_a_row = self.faults_in_a_row or [0] * self.num_envs
        self._needs_initial_reset = True
        make_callback(
            "on_environment_created",
            callbacks_objects=self._callbacks,
            callbacks_functions=config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": self.env.unwrapped,
                "env_context": context,
            },
        )

    def stop(self) -> None:
        """Close the environments, also where processes of them are dead or hang."""
        self._close_env()

    def start_generation(self, entropy: int, generation: int) -> None:
        """Make the environments anew, with episodes seeded from another place.

        Args:
            entropy: See ``SeedPlace``.
            generation: See ``SeedPlace``.
        """
        place = self.seed_place
        self.seed_place = SeedPlace(entropy, place.evaluating, place.worker_index, generation)
        self.make_env()

    def drop_episodes(self) -> None:
        """Begin new episodes, because fragments of the running ones have been lost."""
        if not self._needs_initial_reset:
            self.start_generation(self.seed_place.entropy, self.seed_place.generation + 1)

    def crashed_between_samples(self, error: Exception) -> None:
        """Make the environments anew, because their vector was found broken while it was idle.

        What asked for something else than samples, such as a checkpoint, goes on; where it is the
        fault after which a run stops, the next ``sample`` says so.

        Args:
            error: How it was found.
        """
        try:
            self._crashed(error)
        except EnvFaultLimitError as limit:
            self._limit = limit
            self.drop_episodes()

    def mark_started(self) -> None:
        """Its environments run, without a reset of this process' own."""
        self._ever_reset = True

    def set_state(self, state: dict[str, Any]) -> None:
        """RLlib's, which would keep weights with a higher number than those of a restored run."""
        if COMPONENT_RL_MODULE in state:
            self._weights_seq_no = 0
            self._restarted = False
        super().set_state(state)

    def _sample(self, **kwargs: Any) -> list[Any]:
        if self._limit is not None:
            raise self._limit
        self._dropped = 0
        episodes = super()._sample(**kwargs)
        kept = [episode for episode in episodes if episode.id_ not in self._faulty]
        for episode in episodes:
            if episode.id_ in self._faulty:
                # Its last step is none: the environment failed in it.
                self._dropped += max(0, len(episode) - 1)
                self._ongoing_episodes_for_metrics.pop(episode.id_, None)
        done = self._done_episodes_for_metrics
        done[:] = [episode for episode in done if episode.id_ not in self._faulty]
        self._faulty &= {episode.id_ for episode in self._ongoing_episodes}
        finished = sum(episode.is_done for episode in kept)
        super()._increase_sampled_metrics(sum(map(len, kept)), finished)
        self._count(NUM_ENV_STEPS_DROPPED, self._dropped)
        self._count(NUM_ENV_FAULTS, 0)
        self._count(NUM_EPISODES_NOT_RESUMED, 0)
        return kept

    def _increase_sampled_metrics(self, num_steps: int, num_episodes_completed: int) -> int:
        """Nothing yet: ``_sample`` counts what is left without faulty episodes."""
        return num_steps

    def _make_on_episode_callback(self, which: str, idx: int, episodes: list[Any]) -> None:
        if which == "on_episode_end":
            if episodes[idx].id_ in self._faulty:
                return
            self.faults_in_a_row[idx] = 0
        super()._make_on_episode_callback(which, idx, episodes)

    def _try_env_reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Any]:
        # The given seed is not used: each sub-environment has seeds of its own.
        try:
            with self.metrics.log_time(ENV_RESET_TIMER):
                result: tuple[Any, Any] = self.env.reset(options=options)
        except Exception as error:
            self._crashed(error)
            return self._try_env_reset(options=options)
        self._ever_reset |= not all(FAULT_KIND in info for info in result[1])
        self._note_faults(result[1])
        return result

    def _try_env_step(self, actions: Any) -> Any:
        try:
            with self.metrics.log_time(ENV_STEP_TIMER):
                results: Any = self.env.step(actions)
        except Exception as error:
            for episode in self._ongoing_episodes:
                self._dropped += len(episode)
            self._crashed(error)
            return ENV_STEP_FAILURE
        self._log_env_steps(metric=self._metrics_num_try_env_step, num_steps=1)
        self._note_faults(results[4])
        return results

    def _note_faults(self, infos: Any) -> None:
        for index, info in enumerate(infos):
            if FAULT_KIND in info:
                self._faulty.add(self._ongoing_episodes[index].id_)
                kind = info[FAULT_KIND]
                what = f"sub-environment {index} of env-runner {self.worker_index} failed ({kind})"
                self._count_fault(index, kind, f"{what}: {info[FAULT_MESSAGE]}")

    def _crashed(self, error: Exception) -> None:
        """The vector itself failed, such as by the death of a process: all of it is made anew."""
        what = f"the vector of all sub-environments of env-runner {self.worker_index}"
        for index in range(self.num_envs):
            self._count_fault(index, CRASH, f"{what} failed ({CRASH}): {describe(error)}")
        place = self.seed_place
        self.start_generation(place.entropy, place.generation + 1)

    def _count_fault(self, index: int, kind: str, text: str) -> None:
        if not self._ever_reset:
            raise EnvFaultLimitError(f"{text}. It is its first reset: the environment is unusable.")
        episode = self._ongoing_episodes[index]
        step = 0 if episode is None else episode.t + 1
        self._count((ENV_FAULTS, kind), 1)
        self._count(NUM_ENV_FAULTS, 1)
        self.faults_in_a_row[index] += 1
        logger.warning("%s; step %d, the episode is dropped.", text, step)
        if self.faults_in_a_row[index] > self.config.max_env_faults:
            raise EnvFaultLimitError(
                f"{text}. It has failed {self.faults_in_a_row[index]} times without finishing an "
                f"episode (max_env_faults={self.config.max_env_faults}): repair the environment, "
                "or raise max_env_faults."
            )

    def _count(self, key: str | tuple[str, str], value: int) -> None:
        self.metrics.log_value(key, value, reduce="lifetime_sum")

    def _close_env(self) -> None:
        if self.env is None:
            return
        vector = self.env.unwrapped
        if isinstance(vector, gym.vector.AsyncVectorEnv):
            end_processes(vector)
        with suppress(Exception):
            self.env.close()


def _fresh_entropy() -> int:
    return int.from_bytes(os.urandom(4), "little")


def _actor_was_restarted() -> bool:
    context = ray.get_runtime_context()
    return context.get_actor_id() is not None and context.was_current_actor_reconstructed
