"""Rounds of online collection that env-runners work at while learners update."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from rllib_fmq.rollout.faults import EnvFaultLimitError
from rllib_fmq.rollout.sampling import (
    Answer,
    PolicyVersion,
    SampledRound,
    collect,
    collect_remotely,
)

logger = logging.getLogger(__name__)


@dataclass
class _Round:
    number: int
    asked: list[int]
    """Indices of remote runners; empty: the local one."""
    share: int
    """Steps of each runner."""
    policy: PolicyVersion

    @property
    def num_steps(self) -> int:
        return self.share * max(1, len(self.asked))

    def tag(self, index: int) -> str:
        """RLlib's name of the request to one runner."""
        return f"round {self.number} of env-runner {index}"


class RoundsInFlight:
    """Requests rounds of an ``EnvRunnerGroup`` and collects them, oldest first.

    A round is one request to each healthy remote runner, which works off its requests in their
    order. A request carries a reference to the newest weights at that time, so that no calls to set
    weights queue up, and versions between two requests are skipped. A runner that is dead, or was
    restarted and has no weights yet, is left out until the algorithm restores it; one that does not
    answer in time is killed, and Ray restarts it. Its requests of later rounds are dropped.

    Without remote runners, a round is collected by the local one when it is asked for.

    Args:
        group: The algorithm's ``EnvRunnerGroup``.
        timeout_s: Seconds that remote runners have for a round, from when it is waited for; None:
            no limit.
    """

    def __init__(self, group: Any, timeout_s: float | None = None) -> None:
        self._group, self._timeout_s = group, timeout_s
        self._rounds: deque[_Round] = deque()
        self._number = 0
        self._policy = PolicyVersion()
        self._lost: set[int] = set()
        """Runners that have been asked for nothing since they were lost."""

    def __len__(self) -> int:
        return len(self._rounds)

    @property
    def num_steps(self) -> int:
        """Steps that are requested and not yet collected."""
        return sum(waiting.num_steps for waiting in self._rounds)

    def use_policy(self, state: Any) -> None:
        """Let later requests carry a new version of the policy.

        Args:
            state: See ``PolicyVersion``. Of the local runner, nothing: it has the weights.
        """
        self._policy = PolicyVersion(self._policy.number + 1, state)

    def request(self, num_steps: int) -> None:
        """Ask for a round; nothing is asked for where no runner is healthy.

        Args:
            num_steps: Primitive steps, >= 1, shared among the runners. They are fewer where a
                runner is lost, or episodes with faults are dropped.
        """
        remote = self._group.num_remote_env_runners() > 0
        asked = list(self._group.healthy_env_runner_ids()) if remote else []
        if remote and not asked:
            return
        # Environments step together.
        envs = self._group._remote_config.num_envs_per_env_runner
        share = math.ceil(num_steps / max(1, len(asked)) / envs) * envs
        self._number += 1
        new = _Round(self._number, asked, share, self._policy)
        for index in asked:
            self._group.foreach_env_runner_async(
                partial(
                    collect_remotely,
                    num_steps=share,
                    policy=self._policy,
                    after_loss=index in self._lost or self._was_dropped(index),
                ),
                tag=new.tag(index),
                remote_worker_ids=[index],
            )
        self._lost -= set(asked)
        self._rounds.append(new)

    def collect(self) -> SampledRound:
        """Wait for the oldest round.

        Returns:
            What it brought; nothing where no round is in flight.
        Raises:
            EnvFaultLimitError: If a runner's environments failed too often.
        """
        if not self._rounds:
            return SampledRound()
        oldest = self._rounds.popleft()
        if oldest.asked:
            answers, num_lost = self._wait(oldest)
        else:
            answers, num_lost = [collect(self._group.local_env_runner, oldest.share)], 0
        for error in (answer.error for answer in answers if answer.error):
            raise EnvFaultLimitError(error)
        collected = [answer for answer in answers if answer.metrics is not None]
        return SampledRound(
            fragments=[answer.episodes for answer in collected],
            num_steps=sum(len(e) for answer in collected for e in answer.episodes),
            metrics=[answer.metrics for answer in collected if answer.metrics is not None],
            num_fragments_lost=num_lost * self._group._remote_config.num_envs_per_env_runner,
            policy_lag=self._policy.number - oldest.policy.number,
        )

    def discard(self) -> None:
        """Wait until no runner works at a request, and forget what they bring."""
        while self._rounds:
            oldest = self._rounds.popleft()
            if oldest.asked:
                self._wait(oldest)

    def _wait(self, oldest: _Round) -> tuple[list[Answer], int]:
        """Answers, and the number of runners that gave no samples."""
        answers: Mapping[int, Answer] = dict(
            self._group.fetch_ready_async_reqs(
                tags=[oldest.tag(index) for index in oldest.asked],
                timeout_seconds=self._timeout_s,
            )
        )
        samples = {i for i, answer in answers.items() if answer.metrics is not None}
        errors = {i for i, answer in answers.items() if answer.error}
        lost = set(oldest.asked) - samples - errors
        for index in lost:
            self._take_out(index, oldest.tag(index), index in answers)
        self._forget_requests_of(lost)
        self._lost |= lost
        return list(answers.values()), len(lost)

    def _take_out(self, index: int, tag: str, answered: bool) -> None:
        """Leave a runner out until the algorithm's ``restore_env_runners`` finds it again."""
        manager = self._group._worker_manager  # RLlib gives no other access to single runners
        if not manager.is_actor_healthy(index):
            return  # RLlib has noted its death
        if answered:
            logger.warning("env-runner %d was restarted: it gets the weights, and goes on.", index)
        elif self._in_flight(tag):
            logger.warning(
                "env-runner %d gave no answer within sample_timeout_s=%s: it starts anew.",
                index,
                self._timeout_s,
            )
            ray.kill(manager.actors()[index], no_restart=False)
        else:
            return  # it died and was restored while the round was in flight
        manager.set_actor_state(index, healthy=False)

    def _forget_requests_of(self, lost: Iterable[int]) -> None:
        """RLlib drops all requests of a runner that it finds dead; those are not to be awaited."""
        gone = set(lost)
        for later in self._rounds:
            later.asked = [i for i in later.asked if i not in gone or self._in_flight(later.tag(i))]
        self._rounds = deque(later for later in self._rounds if later.asked)

    def _was_dropped(self, index: int) -> bool:
        """Whether a runner lost a request that nobody has waited for yet, and is back."""
        return any(
            index in waiting.asked and not self._in_flight(waiting.tag(index))
            for waiting in self._rounds
        )

    def _in_flight(self, tag: str) -> bool:
        return bool(self._group.num_in_flight_async_reqs(tag))
