"""One round of online collection on all env-runners."""

from __future__ import annotations

import math
from typing import Any

import ray


def sample_round(group: Any, num_steps: int) -> tuple[list[Any], int, list[dict[str, Any]]]:
    """Collect at least ``num_steps`` primitive steps, shared among the runners.

    Args:
        group: The algorithm's ``EnvRunnerGroup``.
        num_steps: Steps wanted, >= 1; every environment takes the same number of them.
    Returns:
        Episode fragments (a list for a local runner, one reference a remote runner: the
        data do not pass through this process), steps taken, and the runners' metrics.
    Raises:
        RuntimeError: If no runner returned anything.
    """
    if not group.num_remote_env_runners():
        runner = group.local_env_runner
        episodes = runner.sample(num_timesteps=num_steps)
        return [episodes], sum(map(len, episodes)), [runner.get_metrics()]

    share = math.ceil(num_steps / max(1, group.num_healthy_remote_workers()))

    def sample(runner: Any) -> tuple[Any, int, dict[str, Any]]:
        episodes = runner.sample(num_timesteps=share)
        return ray.put(episodes), sum(map(len, episodes)), runner.get_metrics()

    results = group.foreach_env_runner(sample, local_env_runner=False)
    if not results:
        raise RuntimeError("no env-runner returned samples: see the runners' errors above.")
    return [r[0] for r in results], sum(r[1] for r in results), [r[2] for r in results]
