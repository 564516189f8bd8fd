"""Collection beside learning: how both scale with env-runners, and what overlapping saves.

    python benchmarks/overlap.py

The environment sleeps 100 ms a step and uses no CPU, as a robot at 10 Hz does. All env-runners run
from the start; each measurement asks some of them for samples, and the repetitions go through all
measurements in turn. The best of each counts: whatever else the machine does only takes time. First
the update costs next to nothing and the number of runners grows. Then four runners collect while
the number of updates a step grows, so that a round of updates takes from a fraction to a multiple
of a round of collection; each is also measured alone.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by Ray's processes

import logging
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import matplotlib
import numpy as np
import ray
from ray.tune.registry import register_env

from rllib_fmq import FMQConfig
from rllib_fmq.data.formats.transitions_npz import save_transitions
from rllib_fmq.rollout.collection_stats import CollectionStats

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ENV = "rllib_fmq_benchmarks/Sleep"
STEP_SECONDS = 0.1
RUNNERS = (1, 2, 4, 8, 16)
RATIOS = (0.25, 0.5, 1.0, 2.0)
"""Seconds of updates over seconds of collection, in a round."""
CROSSING_RUNNERS = 4
OBS_DIM, ACTION_DIM = 8, 3
HUGE = 10**9


class Sleep(gym.Env[np.ndarray, np.ndarray]):
    """Waits; what it observes and pays does not matter."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (OBS_DIM,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        time.sleep(STEP_SECONDS)
        return self._observe(), 0.0, False, False, {}

    def _observe(self) -> np.ndarray:
        return self.np_random.uniform(-1.0, 1.0, OBS_DIM).astype(np.float32)


def write_dataset(folder: Path) -> Path:
    """A thousand random steps."""
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (10, 101, OBS_DIM))
    num = 1_000
    return save_transitions(
        folder / "random.npz",
        observations=states[:, :-1].reshape(num, OBS_DIM),
        actions=rng.uniform(-1, 1, (num, ACTION_DIM)),
        rewards=rng.standard_normal(num),
        next_observations=states[:, 1:].reshape(num, OBS_DIM),
        terminated=np.zeros(num, bool),
        truncated=np.arange(num) % 100 == 99,
    )


def build(dataset: Path, num_runners: int, fragment: int) -> Any:
    """An algorithm at the beginning of its online phase."""
    config = (
        FMQConfig()
        .environment(ENV)
        .offline_data(dataset=str(dataset))
        .env_runners(
            num_env_runners=num_runners,
            num_cpus_per_env_runner=1 / 64,
            rollout_fragment_length=fragment,
        )
        .training(
            actor_hidden=(32, 32),
            critic_hidden=(32, 32),
            num_candidates=4,
            collection_selector="sample",
            train_batch_size_per_learner=32,
            replay_capacity=200_000,
            learner_threads=1,
            compile_updates=False,
        )
        .phases(offline_updates=1, online_env_steps=HUGE, learning_starts=0)
        .evaluation(evaluation_interval=None)
        .debugging(seed=0, log_level="ERROR")
    )
    algo = config.build_algo()
    algo.train()
    return algo


class Bench:
    """Measures with some of an algorithm's runners.

    Args:
        algo: In its online phase.
        fragment: Steps of a runner in a round.
        rounds: In a measurement.
    """

    def __init__(self, algo: Any, fragment: int, rounds: int) -> None:
        self.algo, self.fragment, self.rounds = algo, fragment, rounds

    def run(self, num_runners: int, updates_a_round: int, lag: int = 1) -> float:
        """Seconds of a round, after one that is not measured."""
        algo = self.algo
        algo._store_rounds_in_flight()
        steps = num_runners * self.fragment
        config = algo.config.copy(copy_frozen=False)
        config.num_env_runners, config.max_policy_lag = num_runners, lag
        config.utd_ratio = updates_a_round / steps
        algo.config = config
        algo.env_runner_group.healthy_env_runner_ids = lambda: list(range(1, num_runners + 1))
        self._train(1)
        start = time.perf_counter()
        self._train(self.rounds)
        return (time.perf_counter() - start) / self.rounds

    def _train(self, rounds: int) -> None:
        algo, config = self.algo, self.algo.config
        algo.num_online_env_steps = algo.num_online_updates = 0
        config.updates_per_iteration = rounds * config.online_steps_per_round() * config.utd_ratio
        algo._collection = CollectionStats()
        algo.training_step()

    def update_alone(self, updates_a_round: int) -> float:
        """Seconds of a round's updates and weights, while runners are idle."""
        algo = self.algo
        algo._store_rounds_in_flight()
        start = time.perf_counter()
        for _ in range(self.rounds):
            algo._update_learners(updates_a_round)
            algo._sync_weights()
        return (time.perf_counter() - start) / self.rounds


def measure(
    bench: Bench, runners: list[int], ratios: list[float], crossing: int, repetitions: int
) -> tuple[dict[int, list[float]], dict[float, dict[str, list[float]]]]:
    """Both experiments, interleaved.

    Returns:
        Seconds of a round of collection by the number of runners; and of a round of updates
        ("update"), of collection ("collect"), of both overlapped ("both") and alternating
        ("alternating") by the ratio.
    """
    scaling: dict[int, list[float]] = {n: [] for n in runners}
    crossed: dict[float, dict[str, list[float]]] = {
        ratio: {"collect": [], "update": [], "both": [], "alternating": []} for ratio in ratios
    }
    bench.update_alone(100)  # the first updates take longer, and so do the first samples
    bench.run(max([*runners, crossing]), 1)
    seconds_an_update = bench.update_alone(300) / 300
    round_seconds = bench.run(crossing, 1)
    for _ in range(repetitions):
        for n in runners:
            scaling[n].append(bench.run(n, 1))
        for ratio, seconds in crossed.items():
            updates = max(1, round(ratio * round_seconds / seconds_an_update))
            seconds["collect"].append(bench.run(crossing, 1))
            seconds["update"].append(bench.update_alone(updates))
            seconds["both"].append(bench.run(crossing, updates))
            seconds["alternating"].append(bench.run(crossing, updates, lag=0))
    return scaling, crossed


def report(
    scaling: dict[int, list[float]],
    crossed: dict[float, dict[str, list[float]]],
    fragment: int,
    crossing: int,
    image: Path,
) -> None:
    """Print both tables and draw them."""
    rates = {n: [n * fragment / s for s in seconds] for n, seconds in scaling.items()}
    one = max(rates[min(rates)]) / min(rates)
    print(
        "| env-runners | steps/s, best | share of linear | median | share of linear |\n"
        "|---:|---:|---:|---:|---:|"
    )
    for n, values in rates.items():
        cells = (f"{rate:.1f} | {rate / (n * one):.0%}" for rate in (max(values), median(values)))
        print(f"| {n} | {' | '.join(cells)} |")
    print(
        f"\n{crossing} env-runners, seconds of a round, the best of each:\n\n"
        "| updates alone | collection alone | larger | overlapped | over the larger "
        "| alternating |\n"
        "|---:|---:|---:|---:|---:|---:|"
    )
    rows = []
    for seconds in crossed.values():
        row = {name: min(values) for name, values in seconds.items()}
        larger = max(row["update"], row["collect"])
        rows.append(row | {"larger": larger})
        print(
            f"| {row['update']:.2f} | {row['collect']:.2f} | {larger:.2f} | {row['both']:.2f} | "
            f"{row['both'] / larger - 1:+.0%} | {row['alternating']:.2f} |"
        )
    draw(rates, one, rows, image)


def draw(
    rates: dict[int, list[float]], one: float, rows: list[dict[str, float]], image: Path
) -> None:
    """Two panels: steps a second by runners, and seconds of a round by those of its updates."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    counts = list(rates)
    left.plot(counts, [n * one for n in counts], ":", color="gray", label="linear")
    left.plot(counts, [max(rates[n]) for n in counts], "o-", label="measured")
    left.set(xscale="log", yscale="log", xlabel="env-runners", ylabel="environment steps / s")
    left.set_xticks(counts, [str(n) for n in counts])
    left.minorticks_off()
    left.legend()
    updates = [row["update"] for row in rows]
    right.plot(updates, [row["larger"] for row in rows], ":", color="gray", label="the larger")
    right.plot(updates, [row["both"] for row in rows], "o-", label="max_policy_lag = 1")
    right.plot(updates, [row["alternating"] for row in rows], "s--", label="max_policy_lag = 0")
    right.set(xlabel="seconds of a round's updates", ylabel="seconds of a round")
    right.set_ylim(bottom=0)
    right.legend()
    image.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(image, dpi=120)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runners", type=int, nargs="+", default=list(RUNNERS))
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS))
    parser.add_argument("--crossing", type=int, default=CROSSING_RUNNERS)
    parser.add_argument("--fragment", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--image", type=Path, default=Path("docs/images/overlap.png"))
    args = parser.parse_args()
    register_env(ENV, lambda config: Sleep(dict(config)))
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    with tempfile.TemporaryDirectory() as folder:
        most = max([*args.runners, args.crossing])
        start = time.perf_counter()
        algo = build(write_dataset(Path(folder)), most, args.fragment)
        print(f"{most} env-runners started in {time.perf_counter() - start:.0f} s")
        bench = Bench(algo, args.fragment, args.rounds)
        start = time.perf_counter()
        results = measure(bench, args.runners, args.ratios, args.crossing, args.repetitions)
        print(f"measured in {time.perf_counter() - start:.0f} s\n")
        report(*results, args.fragment, args.crossing, args.image)
        algo.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
