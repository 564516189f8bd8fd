"""The two phases of a run, on RLlib's new API stack."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_RL_MODULE,
)
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    EVALUATION_RESULTS,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
    WEIGHTS_SEQ_NO,
)
from ray.tune.result import SHOULD_CHECKPOINT

from rllib_fmq.algorithms.dead_learners import deaths_named
from rllib_fmq.algorithms.tune_trial import TuneTrial
from rllib_fmq.checkpointing.find import find_checkpoint
from rllib_fmq.learner.initial_checkpoint import read_initial_state
from rllib_fmq.rollout.collection_stats import CollectionStats
from rllib_fmq.rollout.pipeline import RoundsInFlight
from rllib_fmq.rollout.sampling import NUM_FRAGMENTS_LOST, SampledRound

ALGORITHM_STATE = "flow_map"
OFFLINE, ONLINE, FINISHED = "offline", "online", "finished"


class FlowMapAlgorithm(TuneTrial):
    """Offline updates on a dataset, then online collection and updates.

    Results carry ``phase``, ``num_updates``, ``num_online_env_steps`` (primitive steps) and
    ``evaluated_this_iteration``; ``done`` turns true when both phases are over.
    """

    def setup(self, config: Any) -> None:
        """Build runners and learners; load the initial checkpoint if there is one.

        Raises:
            FileNotFoundError: If there is no such checkpoint, and the trial none of its own.
        """
        # A trial that starts again goes on from its own: the initial one may be gone by then.
        starts = bool(config.get("initial_checkpoint")) and not self.has_own_checkpoint()
        if starts:
            find_checkpoint(config["initial_checkpoint"])  # before the dataset is loaded
        self.num_updates = 0
        self.num_offline_updates = 0
        self.num_online_updates = 0
        self.num_online_env_steps = 0
        self._online = False
        self._stored_outside = False
        self._collection = CollectionStats()
        super().setup(config)
        if starts:
            self._load_initial_checkpoint(self.config.initial_checkpoint)

    @cached_property
    def _rounds(self) -> RoundsInFlight:
        # Made at first use: a callback at the end of set-up may restore a checkpoint.
        return RoundsInFlight(self.env_runner_group, self.config.sample_timeout_s)

    @property
    def phase(self) -> str:
        """One of "offline", "online", "finished"."""
        if self.num_offline_updates < self.config.offline_updates:
            return OFFLINE
        if self.num_online_env_steps < self.config.online_env_steps:
            return ONLINE
        # The last steps may have been stored for a checkpoint, which no iteration has told of yet.
        if self._num_owed() or self._stored_outside:
            return ONLINE
        return FINISHED

    def training_step(self) -> None:
        """One iteration: ``updates_per_iteration`` updates of the current phase.

        Raises:
            FloatingPointError: If training diverged; it names the last good checkpoint.
        """
        try:
            if self.phase == OFFLINE:
                self._offline_iteration()
            elif self.phase == ONLINE:
                self._online_iteration()
        except FloatingPointError as error:
            cause = getattr(error, "cause", None) or error  # Ray's, of a remote learner
            raise FloatingPointError(f"{cause}{self.last_good()}") from error

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
        if phase == ONLINE:
            result["collection"] = self._collection.results()
            self._collection = CollectionStats()
            trained_on = self.num_online_env_steps - self.config.learning_starts
            if trained_on > 0:
                result["collection"]["utd_ratio"] = self.num_online_updates / trained_on
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
        config, ahead = self.config, self._max_rounds_ahead()
        self._begin_online()
        steps = self._steps_per_iteration()
        target = self.num_online_env_steps + steps
        if ahead:  # whole rounds, whose number is right over several iterations
            target -= self.num_online_env_steps % steps
        target = min(config.online_env_steps, target)
        end = config.online_env_steps if ahead else target
        self._request(ahead, end)
        self._learn([])  # what was stored for a checkpoint, without updates
        while self.num_online_env_steps < target:
            sampled = self._collect(end)
            self._request(ahead, end)
            self._learn(sampled.fragments)
        if self.num_online_env_steps >= config.online_env_steps:
            while len(self._rounds):  # asked for before a round brought more than its share
                self._learn(self._receive().fragments)
        self._stored_outside = False

    def _steps_per_iteration(self) -> int:
        ratio: float = self.config.updates_per_iteration / self.config.utd_ratio
        return max(1, round(ratio))

    def _max_rounds_ahead(self) -> int:
        """Rounds that may be in flight while learners update."""
        lag: int = self.config.max_policy_lag
        return lag if self.env_runner_group.num_remote_env_runners() else 0

    def _request(self, num_rounds: int, end: int) -> None:
        """Ask for rounds until so many are in flight, for no more than ``end`` steps in all."""
        longest = min(self.config.online_steps_per_round(), self._steps_per_iteration())
        while len(self._rounds) < num_rounds:
            missing = end - self.num_online_env_steps - self._rounds.num_steps
            before = len(self._rounds)
            if missing > 0:
                self._rounds.request(min(longest, missing))
            if len(self._rounds) == before:
                return

    def _collect(self, end: int) -> SampledRound:
        """The oldest round in flight, once runners are there for it."""
        config = self.config
        for _ in range(config.num_consecutive_env_runner_failures_tolerance + 1):
            self._request(1, end)
            sampled = self._receive()
            if sampled.metrics:
                return sampled
            self.restore_env_runners(self.env_runner_group)
        raise RuntimeError(
            "no env-runner returned samples, more often in a row than num_consecutive_env_runner_"
            f"failures_tolerance={config.num_consecutive_env_runner_failures_tolerance} admits: "
            "see the runners' errors above."
        )

    def _receive(self) -> SampledRound:
        timer = self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER))
        with timer, self._collection.measure("sample_wait"):
            sampled = self._rounds.collect()
        self.metrics.log_value(
            (ENV_RUNNER_RESULTS, NUM_FRAGMENTS_LOST),
            sampled.num_fragments_lost,
            reduce="lifetime_sum",
        )
        self.metrics.aggregate(sampled.metrics, key=ENV_RUNNER_RESULTS)
        self.num_online_env_steps += sampled.num_steps
        self._collection.add_lag(sampled.policy_lag, sum(map(len, sampled.fragments)))
        return sampled

    def _num_owed(self) -> int:
        """Updates owed since learning started; exact over time whatever the rounds' size."""
        config = self.config
        owed = config.utd_ratio * (self.num_online_env_steps - config.learning_starts)
        return max(0, int(owed) - self.num_online_updates)

    def _learn(self, fragments: list[Any]) -> None:
        """Store fragments, and make the updates that are owed."""
        num = self._num_owed()
        if not (num or fragments):
            return
        with self._collection.measure("update"):
            self._update_learners(num, self._for_learners(fragments))
            self.num_online_updates += num
            if num:
                self._sync_weights()
                self._collection.add_version()

    def _for_learners(self, fragments: list[Any]) -> list[Any]:
        if self.learner_group.is_remote:
            return [ray.put(fragment) for fragment in fragments]
        return fragments

    def _store_rounds_in_flight(self) -> None:
        """Wait for them, so that runners and replay stand still at the same step."""
        while len(self._rounds):
            fragments = self._receive().fragments
            if fragments:
                self._stored_outside = True
                # Without updates: those that they owe follow in the next iteration.
                self._update_learners(0, self._for_learners(fragments))

    def _update_learners(self, num_updates: int, fragments: Any = ()) -> None:
        timer = self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER))
        with timer, deaths_named(self.learner_group):
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
        self.ask_learners(lambda learner: learner.begin_online())
        self._sync_weights()
        self._collection.add_version()
        self._online = True

    def _sync_weights(self) -> None:
        group = self.env_runner_group
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            if not group.num_remote_env_runners():
                group.sync_weights(
                    from_worker_or_learner_group=self.learner_group, inference_only=True
                )
                self._rounds.use_policy(None)
                return
            state = self.learner_group.get_state(
                components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
            )[COMPONENT_LEARNER]
            state = {key: state[key] for key in (COMPONENT_RL_MODULE, WEIGHTS_SEQ_NO)}
            if group.local_env_runner is not None:  # whose state runners get that are restored
                group.local_env_runner.set_state(state)
            self._rounds.use_policy(ray.put(state))

    def _load_initial_checkpoint(self, path: str) -> None:
        initial = read_initial_state(path)
        # Put once; a closure over the arrays would travel to every learner by itself.
        reference = ray.put(initial)
        self.ask_learners(lambda learner: learner.start_from(ray.get(reference)))
        self.num_updates = initial.num_updates
        self._sync_weights()

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state and the phase counters, once all that is in flight has been stored."""
        self._store_rounds_in_flight()
        state: dict[str, Any] = super().get_state(
            components, not_components=not_components, **kwargs
        )
        state[ALGORITHM_STATE] = {
            "num_updates": self.num_updates,
            "num_offline_updates": self.num_offline_updates,
            "num_online_updates": self.num_online_updates,
            "num_online_env_steps": self.num_online_env_steps,
            "online": self._online,
            "stored_outside": self._stored_outside,
        }
        return state

    def _save(self, *args: Any) -> None:
        self._store_rounds_in_flight()
        super()._save(*args)

    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        """Go on exactly where a checkpoint was saved; see ``CheckpointedAlgorithm``."""
        self._store_rounds_in_flight()  # also for the run that goes on if this is refused
        super().restore_from_path(path, *args, **kwargs)
        if self._online:
            self._sync_weights()

    def cleanup(self) -> None:
        """Stop learners and runners, once none of these hangs in a request."""
        rounds = self.__dict__.get("_rounds")  # None where nothing was collected
        try:
            if rounds is not None:
                rounds.discard()
        finally:
            super().cleanup()

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what ``get_state`` gave.

        Raises:
            ValueError: If a learner could not restore its part.
        """
        self._rounds.discard()  # of the run that this ends
        super().set_state(state)
        self.check_learners("restore_error", "restore")
        own = state.get(ALGORITHM_STATE)
        if own is None:
            return
        self.num_updates = own["num_updates"]
        self.num_offline_updates = own["num_offline_updates"]
        self.num_online_updates = own["num_online_updates"]
        self.num_online_env_steps = own["num_online_env_steps"]
        self._online = own["online"]
        self._stored_outside = own.get("stored_outside", False)
        if self._online and COMPONENT_LEARNER_GROUP in state:
            self._sync_weights()
