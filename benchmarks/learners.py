"""What several learners cost: throughput, and the share of it that communication takes.

    OMP_NUM_THREADS=1 python -m benchmarks.learners --learners 1 2 4 --width 256

Random data of cube-double's sizes (observations 37, actions 5), FMQ's offline and online update,
both on the rows of the dataset and without environments; gloo. Each learner is a process with its
own batch, as in a run: n learners process n batches an update. Communication is what an update
takes less when neither gradients (DDP's ``no_sync``) nor, online, the disagreement of Eq. 13 are
averaged: sending, and waiting for the slowest learner. Learners that share cores also wait for
these: with more learners than cores, windows/s cannot rise. A check is that of
``parameter_check_interval``; its share is what it adds to an update at that key's default.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.tune.registry import register_env

from rllib_fmq import FMQConfig
from rllib_fmq.data.formats.transitions_npz import save_transitions
from rllib_fmq.learner.agreement import check_agreement, gather_digests

ENV = "rllib_fmq_benchmarks/Sizes"
OBS_DIM, ACTION_DIM, ROWS, EPISODE = 37, 5, 20_000, 200
ROUNDS = 3
PHASES = ("offline", "online")
CHECK_INTERVAL = FMQConfig().parameter_check_interval


class Sizes(gym.Env[np.ndarray, np.ndarray]):
    """Cube-double's spaces; nothing steps it."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)


class Row(NamedTuple):
    """One line of the table."""

    phase: str
    learners: int
    seconds: float
    """Of an update."""
    alone: float
    """The same without communication."""
    check: float
    """Seconds of a comparison of all learners' parameters; 0 with one learner."""


def write_data(path: Path) -> Path:
    """Random transitions in episodes of equal length."""
    random = np.random.default_rng(0)
    obs = random.standard_normal((ROWS, OBS_DIM)).astype(np.float32)
    last = np.arange(ROWS) % EPISODE == EPISODE - 1
    return save_transitions(
        path,
        observations=obs,
        actions=random.uniform(-1.0, 1.0, (ROWS, ACTION_DIM)),
        rewards=random.standard_normal(ROWS),
        # A step's next observation is the one of the step after it, but at the end.
        next_observations=np.concatenate([obs[1:], obs[:1]]),
        terminated=np.zeros(ROWS, bool),
        truncated=last,
    )


def measure(
    number: int, data: Path, width: int, batch: int, updates: int, phases: Sequence[str] = PHASES
) -> Iterator[Row]:
    """Start so many learners and time their updates with and without communication.

    Args:
        number: Of learners.
        data: From ``write_data``.
        width: Of four hidden layers.
        batch: Of each learner.
        updates: In a round.
        phases: Of "offline" and "online".
    """
    config = (
        FMQConfig()
        .environment(ENV)
        .offline_data(dataset=str(data))
        .training(
            actor_hidden=(width,) * 4,
            critic_hidden=(width,) * 4,
            num_candidates=4,
            diagonal_warmup_updates=0,
            interval_anneal_end=0,
            train_batch_size_per_learner=batch,
            parameter_check_interval=0,  # without communication, learners do differ
            learner_threads=1,
            compile_updates=False,
        )
        .learners(num_learners=number)
        .debugging(seed=0, log_level="ERROR")
    )
    config.validate()
    spaces = {DEFAULT_MODULE_ID: (Sizes.observation_space, Sizes.action_space)}
    group = config.build_learner_group(
        rl_module_spec=config.get_multi_rl_module_spec(spaces=spaces)
    )

    def seconds(function: Callable[[Any], float]) -> float:
        return max(answer.get() for answer in group.foreach_learner(function))

    try:
        check = statistics.median([seconds(_check) for _ in range(1 + ROUNDS)][1:])
        for phase in sorted(phases):  # there is no way back from online
            if phase == "online":
                seconds(lambda learner: learner.begin_online() or 0.0)
            # In turn; the first pair warms up.
            pairs = [
                [seconds(partial(_update, updates=updates, communicate=c)) for c in (True, False)]
                for _ in range(1 + ROUNDS)
            ][1:]
            whole, alone = (statistics.median(column) for column in zip(*pairs, strict=True))
            yield Row(phase, number, whole / updates, alone / updates, check)
    finally:
        group.shutdown()


def _update(learner: Any, updates: int, communicate: bool) -> float:
    """Seconds of so many updates of all learners."""
    with contextlib.ExitStack() as stack:
        if learner.distributed:
            if not communicate:
                stack.enter_context(learner.module[DEFAULT_MODULE_ID].no_sync())
                learner._global_mean = lambda value: value
                stack.callback(delattr, learner, "_global_mean")  # the class's again
            torch.distributed.barrier()
        start = time.perf_counter()
        learner.update(num_updates=updates)
        if learner.distributed:
            torch.distributed.barrier()
        return time.perf_counter() - start


def _check(learner: Any) -> float:
    """Seconds of what a learner does whenever ``parameter_check_interval`` has passed."""
    if not learner.distributed:
        return 0.0
    torch.distributed.barrier()
    start = time.perf_counter()
    tensors = learner.flow_module.state_dict()
    check_agreement(list(tensors), gather_digests(tensors), learner.num_updates)
    return time.perf_counter() - start


HEAD = """\
| phase | learners | ms an update | windows/s | without communication, ms | communication \
| a check, ms | its share |
|---|---:|---:|---:|---:|---:|---:|---:|"""


def line(row: Row, batch: int) -> str:
    """Of the Markdown table."""
    share = max(0.0, 1.0 - row.alone / row.seconds) if row.learners > 1 else 0.0
    windows = row.learners * batch / row.seconds
    of_check = row.check / (CHECK_INTERVAL * row.seconds)
    check = f"{1e3 * row.check:.1f} | {of_check:.3%}" if row.check else "none | "
    return (
        f"| {row.phase} | {row.learners} | {1e3 * row.seconds:.1f} | {windows:,.0f} "
        f"| {1e3 * row.alone:.1f} | {share:.0%} | {check} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learners", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--width", type=int, default=256, help="of four hidden layers")
    parser.add_argument("--batch", type=int, default=256, help="of each learner")
    parser.add_argument("--updates", type=int, default=100, help="in a round")
    parser.add_argument("--phase", choices=PHASES, nargs="+", default=list(PHASES))
    options = parser.parse_args()
    ray.init(
        address="local",
        num_cpus=max(options.learners),
        include_dashboard=False,
        log_to_driver=False,
    )
    register_env(ENV, lambda config: Sizes())
    try:
        with tempfile.TemporaryDirectory() as folder:
            data = write_data(Path(folder) / "data.npz")
            print(HEAD, flush=True)
            for number in options.learners:
                sizes = options.width, options.batch, options.updates
                for row in measure(number, data, *sizes, options.phase):
                    print(line(row, options.batch), flush=True)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
