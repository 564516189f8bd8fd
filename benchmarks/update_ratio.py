"""Is the update-to-data ratio what it was set to, and the policy no older than it may be?

    python -m benchmarks.update_ratio

Real runs over 20,000 environment steps with Ray's remote env-runners: once with environments that
take no time, so that env-runners wait for updates, and once with ones that wait, so that updates
wait for env-runners. Nothing is taken from the algorithm's own counters: the environments count
their steps, the optimizer counts its own, and RLlib's episodes say with which version of the
weights they were acted in. Ends with 1 where a ratio is off by more than 1 %, or a policy older.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by Ray's processes

import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from ray.tune.registry import register_env

from benchmarks.overlap import Sleep, write_dataset
from rllib_fmq import FMQConfig

ENV = "rllib_fmq_benchmarks/Counting"
STEPS, TOLERANCE = 20_000, 0.01
RUNNERS, ENVS, FRAGMENT = 2, 16, 20
UTD_RATIO = 0.07
"""A round owes no whole number of updates, so that rounding would add up."""
LEARNING_STARTS = 100
SLOW_SECONDS = 5e-3
"""Of a step of all of an env-runner's environments."""


class Counting(Sleep):
    """Counts its steps; ``config["seconds"]`` is how long one takes."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.seconds = float((config or {}).get("seconds", 0.0))
        self.num_steps = self.in_episode = 0

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode of 100 steps."""
        self.in_episode = 0
        return super().reset(**kwargs)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Wait, if at all, and count."""
        if self.seconds:
            time.sleep(self.seconds)
        self.num_steps += 1
        self.in_episode += 1
        return self._observe(), 0.0, False, self.in_episode == 100, {}


class Reached(NamedTuple):
    """A run, by what environments, optimizer and episodes say."""

    what: str
    max_policy_lag: int
    steps: int
    updates: int
    set_ratio: float
    largest_lag: int

    @property
    def ratio(self) -> float:
        """Updates over the steps since learning started."""
        return self.updates / (self.steps - LEARNING_STARTS)

    @property
    def deviation(self) -> float:
        """As a share of the setting."""
        return self.ratio / self.set_ratio - 1

    @property
    def holds(self) -> bool:
        """Whether both are as they were set."""
        return abs(self.deviation) <= TOLERANCE and self.largest_lag <= self.max_policy_lag


def recorded_lags(algo: Any) -> list[int]:
    """From now on, of each fragment that learners get, by the numbers that RLlib wrote into it."""
    lags: list[int] = []
    published: list[int] = []  # RLlib's numbers, which leave out some, of successive versions
    update = algo._update_learners

    def recording(num_updates: int, fragments: Any = ()) -> None:
        newest = algo.env_runner._weights_seq_no
        if newest not in published:
            published.append(newest)
        for episode in (episode for fragment in fragments for episode in fragment):
            if len(episode):
                acted = episode.get_extra_model_outputs(WEIGHTS_SEQ_NO)
                lags.append(published.index(newest) - published.index(int(min(acted))))
        update(num_updates, fragments)

    algo._update_learners = recording
    return lags


def run(
    what: str, dataset: Path, *, steps: int = STEPS, seconds: float = 0.0, lag: int = 1
) -> Reached:
    """Train from the first online step to the last; Ray must run.

    Args:
        what: Name of the row.
        dataset: Of ``write_dataset``.
        steps: Environment steps of the run.
        seconds: Of a step of all of an env-runner's environments, without a core.
        lag: ``max_policy_lag``.
    Returns:
        What was counted.
    """
    register_env(ENV, lambda config: Counting(dict(config)))
    algo = (
        FMQConfig()
        .environment(ENV, env_config={"seconds": seconds / ENVS})  # stepped one after another
        .offline_data(dataset=str(dataset))
        .env_runners(
            num_env_runners=RUNNERS,
            num_envs_per_env_runner=ENVS,
            rollout_fragment_length=FRAGMENT,
            max_policy_lag=lag,
        )
        .training(
            horizon_length=2,
            actor_hidden=(8,),
            critic_hidden=(8,),
            num_candidates=1,
            collection_selector="sample",
            target_selector="sample",
            train_batch_size_per_learner=8,
            replay_capacity=steps + 2_000,
            learner_threads=1,
            compile_updates=False,
        )
        .phases(
            offline_updates=1,
            online_env_steps=steps,
            updates_per_iteration=max(1, round(UTD_RATIO * steps / 4)),
            utd_ratio=UTD_RATIO,
            learning_starts=LEARNING_STARTS,
        )
        .evaluation(evaluation_interval=None)
        .debugging(seed=0, log_level="ERROR")
        .build_algo()
    )
    try:
        algo.train()
        [before] = algo.ask_learners(_optimizer_steps)
        lags = recorded_lags(algo)
        while not algo.train()["done"]:
            pass
        [after] = algo.ask_learners(_optimizer_steps)
        counted = algo.env_runner_group.foreach_env_runner(_env_steps, local_env_runner=False)
    finally:
        algo.stop()
    return Reached(what, lag, sum(counted), after - before, UTD_RATIO, max(lags))


def _optimizer_steps(learner: Any) -> int:
    """Adam's own count, of the parameter that has most."""
    states = (o.state_dict()["state"] for o in learner._named_optimizers.values())
    return max(int(of["step"]) for state in states for of in state.values())


def _env_steps(runner: Any) -> int:
    return sum(env.unwrapped.num_steps for env in runner.env.unwrapped.envs)


HEAD = (
    "| environment | steps | updates | `utd_ratio` | reached | deviation "
    "| `max_policy_lag` | largest lag | |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---|"
)


def line(row: Reached) -> str:
    """Of the table."""
    return (
        f"| {row.what} | {row.steps:,} | {row.updates:,} | {row.set_ratio:g} | {row.ratio:.5f} "
        f"| {row.deviation:+.3%} | {row.max_policy_lag} | {row.largest_lag} "
        f"| {'holds' if row.holds else 'BROKEN'} |"
    )


def main() -> int:
    """Run, print, and say whether all is as it was set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--lags", type=int, nargs="+", default=[0, 1, 3])
    args = parser.parse_args()
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(Path(folder))
        print(HEAD)
        all_hold = True
        for lag in args.lags:
            for what, seconds in (("no pause", 0.0), ("waits", SLOW_SECONDS)):
                row = run(what, dataset, steps=args.steps, seconds=seconds, lag=lag)
                print(line(row), flush=True)
                all_hold &= row.holds
    ray.shutdown()
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
