"""Env-runners without Ray, on a clock of their own, behind RLlib's EnvRunnerGroup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from rllib_fmq.rollout.sampling import POLICY_VERSION


class Clock:
    """Virtual seconds."""

    now = 0.0


class FakeRunner:
    """Returns one episode a request: numbers of its steps, which never repeat."""

    def __init__(self, index: int, seconds_a_step: float) -> None:
        self.worker_index = index
        self.seconds_a_step = seconds_a_step
        self.awaits_weights = False
        self.free_at = 0.0
        self.requested: list[int] = []
        self.weights: list[Any] = []
        self._weights_seq_no = 0
        self._next = 0
        self.surplus = 0
        """Steps more than asked for, as RLlib's vector of environments may bring."""
        self.num_drops = 0

    def drop_episodes(self) -> None:
        self.num_drops += 1

    def set_state(self, state: Any) -> None:
        self.weights.append(state)

    def sample(self, *, num_timesteps: int) -> list[list[int]]:
        self.requested.append(num_timesteps)
        first = self._next
        self._next += num_timesteps + self.surplus
        return [list(range(first, self._next))]

    def get_metrics(self) -> dict[str, Any]:
        return {}


class FakeGroup:
    """Requests are worked off when they are fetched; a dead or hung runner's never.

    Args:
        num_runners: Remote ones; 0: a local one.
        clock: Moves to the end of what is waited for.
        seconds_a_step: Of each environment step.
    """

    def __init__(self, num_runners: int, clock: Clock, seconds_a_step: float = 0.0) -> None:
        self.clock = clock
        self.runners = {i: FakeRunner(i, seconds_a_step) for i in range(1, num_runners + 1)}
        self.local_env_runner = FakeRunner(0, seconds_a_step)
        self.healthy = set(self.runners)
        self.dead: set[int] = set()
        self.hung: set[int] = set()
        self.in_flight: dict[str, tuple[int, float, Callable[[Any], Any]]] = {}
        self.most_in_flight = 0
        self._remote_config = SimpleNamespace(num_envs_per_env_runner=2)
        self._worker_manager = self

    def num_remote_env_runners(self) -> int:
        return len(self.runners)

    def healthy_env_runner_ids(self) -> list[int]:
        return sorted(self.healthy)

    def is_actor_healthy(self, index: int) -> bool:
        return index in self.healthy

    def actors(self) -> dict[int, FakeRunner]:
        return self.runners

    def set_actor_state(self, index: int, healthy: bool) -> None:
        (self.healthy.add if healthy else self.healthy.discard)(index)
        if not healthy:
            self.in_flight = {t: r for t, r in self.in_flight.items() if r[0] != index}

    def foreach_env_runner_async(
        self, func: Callable[[Any], Any], *, tag: str, remote_worker_ids: Sequence[int]
    ) -> None:
        (index,) = remote_worker_ids
        runner = self.runners[index]
        start = max(runner.free_at, self.clock.now)
        runner.free_at = start + func.keywords["num_steps"] * runner.seconds_a_step  # type: ignore[attr-defined]
        self.in_flight[tag] = (index, runner.free_at, func)
        self.most_in_flight = max(self.most_in_flight, self.num_in_flight_of(index))

    def num_in_flight_of(self, index: int) -> int:
        return sum(request[0] == index for request in self.in_flight.values())

    def num_in_flight_async_reqs(self, tag: str) -> int:
        return int(tag in self.in_flight)

    def fetch_ready_async_reqs(
        self, *, tags: Sequence[str], timeout_seconds: float | None
    ) -> list[tuple[int, Any]]:
        assert tags
        results = []
        for tag in tags:
            if tag not in self.in_flight:
                continue
            index, end, func = self.in_flight[tag]
            if index in self.dead:
                self.set_actor_state(index, False)
            elif index not in self.hung:
                del self.in_flight[tag]
                self.clock.now = max(self.clock.now, end)
                results.append((index, func(self.runners[index])))
        return results

    def restore(self) -> None:
        """What ``Algorithm.restore_env_runners`` does."""
        for index in set(self.runners) - self.healthy:
            self.dead.discard(index)
            self.hung.discard(index)
            self.runners[index].awaits_weights = False
            setattr(self.runners[index], POLICY_VERSION, 0)
            self.set_actor_state(index, True)
