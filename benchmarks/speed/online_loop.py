"""The whole online loop on a real environment, in one process: how much of it is the update.

One round collects ``rollout_fragment_length`` steps and then makes as many updates. What ``train``
does beside its training step (metrics, counters) comes once in ``updates_per_iteration``, so that
its seconds count in that proportion although the iterations here are one round long.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.learner_share import write_dataset
from benchmarks.speed.ours import make_config
from benchmarks.speed.problem import Sizes
from benchmarks.speed.process import all_cores
from benchmarks.speed.stopwatch import Accumulator
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.tasks.registry import make_env

TASK = "cube-double-play-singletask-task3-v0"
UPDATES_PER_ITERATION = 1000
"""The default."""


@contextlib.contextmanager
def online_algorithm(
    task: str, sizes: Sizes, target_candidates: int, *, compiled: bool, fragment: int = 50
) -> Iterator[Any]:
    """FMQ in its online phase, everything in this process, one round an iteration.

    Args:
        task: Of the environment.
        sizes: Of networks and batch.
        target_candidates: N of the critic target.
        compiled: Whether updates are compiled.
        fragment: ``rollout_fragment_length``; the default is the package's.
    """
    with tempfile.TemporaryDirectory() as folder:
        config: FlowMapConfig = (
            make_config(sizes, "FMQ", target_candidates)
            .environment(task)
            .offline_data(dataset=str(write_dataset(Path(folder) / "random.npz", sizes)))
            .training(diagonal_warmup_updates=0, interval_anneal_end=0, compile_updates=compiled)
            .phases(
                offline_updates=1,  # none is refused without a checkpoint to start from
                online_env_steps=1_000_000,
                updates_per_iteration=fragment,
                learning_starts=fragment,
                utd_ratio=1.0,
            )
            .env_runners(num_env_runners=0, rollout_fragment_length=fragment)
            .learners(num_learners=0)
            .evaluation(evaluation_interval=None)
            .debugging(seed=0, log_level="ERROR")
        )
        config.replay_capacity = 100_000
        with all_cores():  # for Ray's processes
            algorithm = config.build_algo()
        algorithm.num_offline_updates = config.offline_updates  # straight to the online phase
    try:
        torch.set_num_threads(1)
        yield algorithm
    finally:
        algorithm.stop()


def loop_shares(algorithm: Any, rounds: int, budget_seconds: float) -> dict[str, list[float]]:
    """Wall time of whole rounds, after learning has started.

    Args:
        algorithm: Of ``online_algorithm``.
        rounds: At most so many.
        budget_seconds: No new round starts after it; there is always one.
    Returns:
        Lists of one number a round: "share" of the learner's update in the whole, and the shares
        "collect", "sync" and "rest"; "seconds" of a round.
    """
    # A round that only collects, and one with the first updates.
    with all_cores():  # for compilers
        for _ in range(2):
            algorithm.train()
    names = ("share", "collect", "sync", "rest", "seconds")
    out: dict[str, list[float]] = {name: [] for name in names}
    parts, step = Accumulator(time.perf_counter), Accumulator(time.perf_counter)
    with contextlib.ExitStack() as stack:
        for part, owner, name in (
            ("update", algorithm.learner_group._learner, "update"),
            ("collect", algorithm.env_runner_group.local_env_runner, "sample"),
            ("sync", algorithm, "_sync_weights"),
        ):
            stack.enter_context(parts.around(part, owner, name))
        stack.enter_context(step.around("step", algorithm, "training_step"))
        begin = time.perf_counter()
        while len(out["share"]) < rounds:
            parts.reset(), step.reset()
            updates, start = algorithm.num_updates, time.perf_counter()
            algorithm.train()
            whole = time.perf_counter() - start
            done = algorithm.num_updates - updates
            outside = (whole - step.total) * done / UPDATES_PER_ITERATION
            seconds = step.total + outside
            out["share"].append(parts.seconds["update"] / seconds)
            out["collect"].append(parts.seconds["collect"] / seconds)
            out["sync"].append(parts.seconds["sync"] / seconds)
            out["rest"].append(1 - parts.total / seconds)
            out["seconds"].append(seconds)
            if time.perf_counter() - begin > budget_seconds:
                break
    return out


def runner_cells(algorithm: Any, task: str, steps: int = 50) -> dict[str, Callable[[], Any]]:
    """Some environment steps: through the env-runner, and in a bare loop.

    The bare loop has the same environment and makes the same planning calls, one every H steps,
    with the same module and selector.

    Args:
        algorithm: Of ``online_algorithm``; its env-runner is used.
        task: Of the environment.
        steps: Environment steps a call.
    Returns:
        "runner" and "bare".
    """
    runner = algorithm.env_runner_group.local_env_runner
    module = runner.module.unwrapped()
    selector, horizon = module.collection_selector, module.horizon_length
    env = make_env(task)
    state: dict[str, Any] = {"obs": env.reset(seed=0)[0], "chunk": []}

    def bare() -> None:
        for _ in range(steps):
            if not len(state["chunk"]):
                obs = torch.from_numpy(np.asarray(state["obs"], np.float32)[None])
                chunk = module.plan(obs, selector).actions
                state["chunk"] = list(chunk.view(horizon, -1).numpy())
            state["obs"], _, terminated, truncated, _ = env.step(state["chunk"].pop(0))
            if terminated or truncated:
                state["obs"], state["chunk"] = env.reset()[0], []

    return {"runner": lambda: runner.sample(num_timesteps=steps), "bare": bare}
