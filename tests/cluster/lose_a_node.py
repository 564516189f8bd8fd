"""A run on three nodes, one of which is lost on the way; prints what became of it as JSON.

Run by test_nodes.py in a process of its own: it starts and stops a Ray cluster.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from tests.algorithms.exact import drift_config, transitions, write_drift

STEPS = 3_000
WAIT_S = 120.0


def homes(algo: Any) -> list[str]:
    """The node of each env-runner that is healthy."""
    nodes: list[str] = algo.env_runner_group.foreach_env_runner(
        lambda runner: ray.get_runtime_context().get_node_id(), local_env_runner=False
    )
    return nodes


def train_until(algo: Any, reached: Callable[[], bool], pause: float = 0.0) -> float:
    """Iterations until something holds; the longest one's seconds."""
    longest, deadline = 0.0, time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < deadline, "it did not come to pass"
        start = time.monotonic()
        result = algo.train()
        longest = max(longest, time.monotonic() - start)
        assert not result["done"], "the run ended before it came to pass"
        time.sleep(pause)
    return longest


def run(cluster: Cluster, dataset: Path) -> dict[str, Any]:
    """Lose a node, get another one, go on to the end."""
    group = {"num_cpus": 1, "resources": {"collect": 1}}
    lost = cluster.add_node(**group)
    cluster.add_node(**group)
    config = drift_config("FMQ", dataset, online_env_steps=STEPS)
    config.env_runners(num_env_runners=2, custom_resources_per_env_runner={"collect": 1})
    config.evaluation(evaluation_interval=None)
    algo = config.build_algo()

    def steps() -> int:
        return int(algo.num_online_env_steps)

    healthy = algo.env_runner_group.num_healthy_remote_workers
    train_until(algo, lambda: steps() >= 70)
    first = homes(algo)

    cluster.remove_node(lost, allow_graceful=False)
    seconds = [train_until(algo, lambda: healthy() == 1)]
    alone = steps()
    seconds.append(train_until(algo, lambda: steps() >= alone + 140))
    during = homes(algo)

    cluster.add_node(**group)
    seconds.append(train_until(algo, lambda: healthy() == 2, pause=1.0))
    back = steps()
    seconds.append(train_until(algo, lambda: steps() >= back + 70))
    last = homes(algo)
    while not (result := algo.train())["done"]:
        pass
    found = transitions(algo)
    algo.stop()
    return {
        "homes": [first, during, last],
        "steps": result["num_online_env_steps"],
        "updates": result["num_updates"],
        "rows": sum(found.values()),
        "most_often": max(found.values()),
        "fragments_lost": result["env_runners"]["num_fragments_lost"],
        "longest_iterations_s": seconds,
    }


def main() -> None:
    """Print the outcome."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run(cluster, write_drift(Path(folder) / "drift.npz"))))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
