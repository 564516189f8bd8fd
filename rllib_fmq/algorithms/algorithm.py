"""The two phases of a run, on RLlib's new API stack."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    EVALUATION_RESULTS,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from ray.tune.result import SHOULD_CHECKPOINT

from rllib_fmq.learner.initial_checkpoint import read_initial_state
from rllib_fmq.rollout.sampling import sample_round

ALGORITHM_STATE = "flow_map"
OFFLINE, ONLINE, FINISHED = "offline", "online", "finished"


class FlowMapAlgorithm(Algorithm):
    """Offline updates on a dataset, then online collection and updates.

    Results carry ``phase``, ``num_updates``, ``num_online_env_steps`` (primitive steps) and
    ``evaluated_this_iteration``; ``done`` turns true when both phases are over.
    """

    def setup(self, config: Any) -> None:
        """Build runners and learners; load the initial checkpoint if there is one."""
        self.num_updates = 0
        self.num_offline_updates = 0
        self.num_online_updates = 0
        self.num_online_env_steps = 0
        self._online = False
        super().setup(config)
        if self.config.initial_checkpoint:
            self._load_initial_checkpoint(self.config.initial_checkpoint)

    @property
    def phase(self) -> str:
        """One of "offline", "online", "finished"."""
        if self.num_offline_updates < self.config.offline_updates:
            return OFFLINE
        if self.num_online_env_steps < self.config.online_env_steps:
            return ONLINE
        return FINISHED

    def training_step(self) -> None:
        """One iteration: ``updates_per_iteration`` updates of the current phase."""
        if self.phase == OFFLINE:
            self._offline_iteration()
        elif self.phase == ONLINE:
            self._online_iteration()

    def step(self) -> dict[str, Any]:
        """One iteration, with an evaluation whenever a phase ends."""
        phase = self.phase
        due = bool(
            self.config.evaluation_interval
            and (self.iteration + 1) % self.config.evaluation_interval == 0
        )
        result: dict[str, Any] = super().step()
        outdated = not due or self.config.evaluation_parallel_to_training
        if self.config.evaluation_interval and self.phase != phase and outdated:
            # A comparison of the phases needs the policy that the phase ended with.
            result.update(self._run_one_evaluation(parallel_train_future=None))
            due = True
        result.update(
            {
                "phase": phase,
                "num_updates": self.num_updates,
                "num_online_env_steps": self.num_online_env_steps,
                "evaluated_this_iteration": due and EVALUATION_RESULTS in result,
                "done": self.phase == FINISHED,
            }
        )
        if self.phase != phase:
            # The policy that a phase ended with is kept: other runs may start from it.
            result[SHOULD_CHECKPOINT] = True
        return result

    def _offline_iteration(self) -> None:
        remaining = self.config.offline_updates - self.num_offline_updates
        num = min(self.config.updates_per_iteration, remaining)
        self._update_learners(num)
        self.num_offline_updates += num

    def _online_iteration(self) -> None:
        config = self.config
        self._begin_online()
        target = min(
            config.online_env_steps,
            self.num_online_env_steps
            + max(1, round(config.updates_per_iteration / config.utd_ratio)),
        )
        while self.num_online_env_steps < target:
            with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
                steps = min(config.online_steps_per_round(), target - self.num_online_env_steps)
                fragments, collected, results = sample_round(self.env_runner_group, steps)
            self.metrics.aggregate(results, key=ENV_RUNNER_RESULTS)
            self.num_online_env_steps += collected
            if self.learner_group.is_remote:
                fragments = [f if isinstance(f, ray.ObjectRef) else ray.put(f) for f in fragments]
            # Owed since learning started; exact over time whatever the round's size.
            owed = config.utd_ratio * (self.num_online_env_steps - config.learning_starts)
            num = max(0, int(owed) - self.num_online_updates)
            self._update_learners(num, fragments)
            self.num_online_updates += num
            if num:
                self._sync_weights()

    def _update_learners(self, num_updates: int, fragments: Any = ()) -> None:
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            # Learners sample from their own replay: RLlib's training data stays empty.
            results = self.learner_group.update(
                episodes_refs=[],
                num_updates=num_updates,
                fragments=fragments,
                # The clock of learning-rate schedules: gradient updates, since the offline
                # phase has no environment steps.
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_updates + num_updates},
            )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self.num_updates += num_updates

    def _begin_online(self) -> None:
        if self._online:
            return
        # Asking for each result brings up a remote learner's error, which RLlib would swallow.
        for result in self.learner_group.foreach_learner(lambda learner: learner.begin_online()):
            result.get()
        self._sync_weights()
        self._online = True

    def _sync_weights(self) -> None:
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group, inference_only=True
            )

    def _load_initial_checkpoint(self, path: str) -> None:
        initial = read_initial_state(path)
        # Put once; a closure over the arrays would travel to every learner by itself.
        reference = ray.put(initial)
        results = self.learner_group.foreach_learner(
            lambda learner: learner.start_from(ray.get(reference))
        )
        for result in results:
            result.get()
        self.num_updates = initial.num_updates
        self._sync_weights()

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state and the phase counters."""
        state: dict[str, Any] = super().get_state(
            components, not_components=not_components, **kwargs
        )
        state[ALGORITHM_STATE] = {
            "num_updates": self.num_updates,
            "num_offline_updates": self.num_offline_updates,
            "num_online_updates": self.num_online_updates,
            "num_online_env_steps": self.num_online_env_steps,
            "online": self._online,
        }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what ``get_state`` gave.

        Raises:
            ValueError: If a learner could not restore its part.
        """
        super().set_state(state)
        self._check_learners_restored()
        own = state.get(ALGORITHM_STATE)
        if own is None:
            return
        self.num_updates = own["num_updates"]
        self.num_offline_updates = own["num_offline_updates"]
        self.num_online_updates = own["num_online_updates"]
        self.num_online_env_steps = own["num_online_env_steps"]
        self._online = own["online"]

    def _check_learners_restored(self) -> None:
        # RLlib takes a remote learner that fails here out of service and goes on without it.
        results = self.learner_group.foreach_learner(
            lambda learner: learner.restore_error, healthy_only=False
        )
        errors = [error for result in results if (error := result.get())]
        if errors:
            raise ValueError(
                f"{len(errors)} of {len(results)} learners could not restore the checkpoint: "
                f"{errors[0]}"
            )
