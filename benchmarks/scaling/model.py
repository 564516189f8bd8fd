"""Throughput of online training from the times of its pieces: the schedule on a virtual clock.

The driver waits for the oldest round of samples, takes the env-runners' answers one after another,
asks them one after another for the next round, and then lets learners update. Up to ``lag`` rounds
are in flight meanwhile (docs/SCALING.md); env-runners work off their requests in order.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np


class Line(NamedTuple):
    """Seconds that grow with a number of items."""

    fixed: float = 0.0
    each: float = 0.0

    def __call__(self, items: float) -> float:
        """Seconds for so many items."""
        return self.fixed + self.each * items

    def times(self, factor: float) -> Line:
        """All of it, so many times."""
        return Line(self.fixed * factor, self.each * factor)

    @classmethod
    def through(cls, a: tuple[float, float], b: tuple[float, float]) -> Line:
        """The line through two points (items, seconds), without negative parts."""
        each = max(0.0, (b[1] - a[1]) / (b[0] - a[0]))
        return cls(max(0.0, a[1] - each * a[0]), each)


NOTHING = Line()


@dataclass(frozen=True)
class Pieces:
    """Times of the pieces, in seconds where nothing else is said."""

    env_step: float = 0.0
    """A step of one environment, on a core."""
    env_wait: float = 0.0
    """Of such a step: time that needs no core, as a robot's."""
    vector_step: Line = NOTHING
    """Connectors and bookkeeping of an env-runner's step, by its environments."""
    plan: tuple[tuple[int, float], ...] = ((1, 0.0),)
    """Planning of chunks, by rows; linear between them and beyond."""
    horizon: int = 5
    """Steps of a chunk."""
    sample: float = 0.0
    """An env-runner's part of a request, whatever its length."""
    latency: float = 0.0
    """From the driver's request until the env-runner begins, and back again."""
    load_weights: float = 0.0
    """An env-runner takes a version of the weights over."""
    request: float = 0.0
    """The driver sends a request to one env-runner."""
    answer: Line = NOTHING
    """The driver takes the answer of one env-runner, by steps in it."""
    lookup: float = 0.0
    """RLlib searches the list of requests for each answer: a comparison."""
    hand_over: Line = NOTHING
    """The driver puts one fragment into the object store, for learners in other processes."""
    store: Line = NOTHING
    """Learners put one env-runner's fragment into their replay, by steps in it."""
    call: float = 0.0
    """A call to the learners, whatever it does."""
    update: float = 0.0
    """A gradient update without communication."""
    publish: float = 0.0
    """The driver gets the weights and puts them into the object store."""
    step_bytes: float = 0.0
    """Of one step in an answer."""
    weight_bytes: float = 0.0
    """Of the weights that env-runners get."""
    gradient_bytes: float = 0.0
    """That learners average in an update."""

    def plan_seconds(self, rows: float) -> float:
        """Planning so many rows at once."""
        known, seconds = zip(*self.plan, strict=True)
        if rows <= known[-1]:
            return float(np.interp(rows, known, seconds))
        return float(seconds[-1] * rows / known[-1])

    def slowed(self, driver: float, runner: float) -> Pieces:
        """On a machine with other work: what needs a core takes so many times as long.

        Args:
            driver: In the driver's process, in which one learner may live.
            runner: In an env-runner's.
        """
        return self._scaled(
            {name: runner for name in _RUNNER_CORE} | {name: driver for name in _DRIVER_CORE}
        )

    def halved(self, part: str) -> Pieces:
        """The same with one of ``PARTS`` taking half its time."""
        return self._scaled(dict.fromkeys(PARTS[part], 0.5))

    def _scaled(self, factors: dict[str, float]) -> Pieces:
        changes: dict[str, Any] = {
            name: _times(getattr(self, name), factors[name]) for name in factors
        }
        return replace(self, **changes)


_RUNNER_CORE = ("env_step", "vector_step", "plan", "sample", "load_weights")
_DRIVER_CORE = ("request", "answer", "lookup", "hand_over", "store", "call", "update", "publish")
PARTS: dict[str, tuple[str, ...]] = {
    "environment": ("env_step", "env_wait"),
    "acting": ("vector_step", "plan", "sample", "load_weights"),
    "update": ("update", "gradient_bytes"),
    "driver": ("request", "answer", "lookup", "hand_over", "store", "call", "publish", "latency"),
    "network": ("step_bytes", "weight_bytes"),
}
"""What may saturate. "driver": all that happens once an env-runner or once a round, one after
another."""


@dataclass(frozen=True)
class Setup:
    """How many of what, and the machines.

    Raises:
        ValueError: For a number out of range.
    """

    runners: int
    envs: int = 1
    """Of an env-runner, stepped one after another."""
    fragment: int = 50
    """Steps of each environment in a round."""
    lag: int = 1
    """Rounds in flight while learners update; 0: they alternate."""
    utd: float = 1.0
    """Updates a step."""
    learners: int = 0
    """In processes of their own; 0: one, in the driver's."""
    learner_bandwidth: float = math.inf
    """Bytes a second between learners."""
    learner_latency: float = 0.0
    """Seconds of one of the 2 (n - 1) exchanges of a ring of learners."""
    bandwidth: float = math.inf
    """Bytes a second of the driver's network."""
    runners_per_node: float = math.inf
    """Each node gets the weights once, one after another."""
    cores: float = math.inf
    """That all processes share."""
    spread: float = 0.0
    """Standard deviation of an env-runner's time for a round, as a share of it."""

    def __post_init__(self) -> None:
        for name, least in (("runners", 1), ("envs", 1), ("fragment", 1)):
            _at_least(name, getattr(self, name), least)
        for name in ("lag", "utd", "learners", "spread", "learner_latency"):
            _at_least(name, getattr(self, name), 0)
        for name in ("bandwidth", "learner_bandwidth", "cores", "runners_per_node"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number > 0.")

    @property
    def steps(self) -> int:
        """Of a round."""
        return self.runners * self.envs * self.fragment


class Outcome(NamedTuple):
    """What a simulation gives; shares are of its time."""

    steps_per_second: float
    round_seconds: float
    collecting: float
    """Share in which an env-runner is at work, on average."""
    updating: float
    """Share in which gradient updates run."""
    serving: float
    """Share in which the driver sends requests, takes answers, stores and publishes."""

    @property
    def waiting(self) -> float:
        """Share in which driver and learners wait for samples."""
        return max(0.0, 1.0 - self.updating - self.serving)


def runner_seconds(pieces: Pieces, setup: Setup) -> float:
    """Of one env-runner for a round, weights aside."""
    step = setup.envs * (pieces.env_step + pieces.env_wait) + pieces.vector_step(setup.envs)
    step += pieces.plan_seconds(setup.envs) / pieces.horizon
    return setup.fragment * step + pieces.sample


def update_seconds(pieces: Pieces, setup: Setup) -> float:
    """Of one update, with the ring of learners that average its gradients."""
    others = max(0, setup.learners - 1)
    volume = 2 * others / max(1, setup.learners) * pieces.gradient_bytes
    return pieces.update + volume / setup.learner_bandwidth + 2 * others * setup.learner_latency


def alone(pieces: Pieces, setup: Setup) -> float:
    """Steps a second that the env-runners would collect if nothing else took time."""
    return setup.steps / runner_seconds(pieces, setup)


def simulate(pieces: Pieces, setup: Setup, rounds: int = 40, seed: int = 0) -> Outcome:
    """Run the schedule.

    Args:
        pieces: Times.
        setup: Numbers.
        rounds: At least 4; the first quarter does not count.
        seed: Of the spread.
    """
    random, number = np.random.default_rng(seed), setup.runners
    own = runner_seconds(pieces, setup)
    fetch = math.ceil(number / setup.runners_per_node) * pieces.weight_bytes / setup.bandwidth
    take = number * pieces.answer(setup.envs * setup.fragment) + number**2 * pieces.lookup
    take += setup.steps * pieces.step_bytes / setup.bandwidth
    one_update = update_seconds(pieces, setup)
    store = pieces.call + number * pieces.store(setup.envs * setup.fragment)
    if setup.learners:
        store += number * pieces.hand_over(setup.envs * setup.fragment)
    asked = pieces.request * np.arange(1, number + 1) + pieces.latency
    free = np.zeros(number)
    in_flight: deque[float] = deque()
    now = collected = updated = served = 0.0
    version_is_new = False

    def request() -> None:
        nonlocal now, free, collected, served, version_is_new
        work = own * np.maximum(0.1, 1 + setup.spread * random.standard_normal(number))
        work += (fetch + pieces.load_weights) if version_is_new else 0.0
        free = np.maximum(free, now + asked) + work
        in_flight.append(float(free.max()))
        collected += float(work.mean())
        now += number * pieces.request
        served += number * pieces.request
        version_is_new = False

    skipped, done = rounds // 4, 0
    for _ in range(setup.lag):
        request()
    for k in range(rounds):
        if k == skipped:
            begin, collected, updated, served = now, 0.0, 0.0, 0.0
        if not in_flight:
            request()
        now = max(now, in_flight.popleft()) + take
        if setup.lag:
            request()
        num = int(setup.utd * (k + 1) * setup.steps) - done
        done += num
        publish = pieces.publish if num else 0.0
        version_is_new = version_is_new or num > 0
        now += store + num * one_update + publish
        updated += num * one_update
        served += take + store + publish
    return _outcome(pieces, setup, rounds - skipped, now - begin, collected, updated, served)


def _outcome(
    pieces: Pieces,
    setup: Setup,
    rounds: int,
    seconds: float,
    collected: float,
    updated: float,
    served: float,
) -> Outcome:
    waits = rounds * setup.fragment * setup.envs * pieces.env_wait
    work = setup.runners * (collected - waits) + updated + served
    seconds = max(seconds, work / setup.cores)
    return Outcome(
        steps_per_second=rounds * setup.steps / seconds,
        round_seconds=seconds / rounds,
        collecting=collected / seconds,
        updating=updated / seconds,
        serving=served / seconds,
    )


def bottleneck(pieces: Pieces, setup: Setup) -> str:
    """Which of ``PARTS`` raises throughput the most if it takes half its time."""
    rates = {part: simulate(pieces.halved(part), setup).steps_per_second for part in PARTS}
    return max(rates, key=rates.__getitem__)


def knee(pieces: Pieces, setup: Setup, share: float, most: int = 1_000) -> int:
    """The greatest number of env-runners that collect so large a share of what they could.

    Args:
        pieces: Times.
        setup: All but the number of env-runners.
        share: Of ``alone``, in (0, 1).
        most: No more than these, >= 1.
    Returns:
        0 to ``most``; 0 where one is already too many.
    """
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        tried = replace(setup, runners=middle)
        if simulate(pieces, tried).steps_per_second >= share * alone(pieces, tried):
            low = middle
        else:
            high = middle
    return low


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, Line):
        return value.times(factor)
    if isinstance(value, tuple):
        return tuple((rows, seconds * factor) for rows, seconds in value)
    return value * factor


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name}={value}: expected a number >= {least}.")
