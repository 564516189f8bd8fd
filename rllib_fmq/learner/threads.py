"""How many threads torch uses in a learner's process."""

from __future__ import annotations

import math
import os
from typing import Any


def choose_threads(config: Any) -> int | None:
    """Threads for a learner on a CPU.

    Processes of Ray's (remote learners, Tune's trials) have OMP_NUM_THREADS from Ray: the CPUs
    that it gave them, at least 1. Elsewhere a learner takes the cores that the run's other
    processes leave: two busy threads on one core wait for each other in every layer.

    Args:
        config: With ``learner_threads``, and RLlib's numbers of processes.
    Returns:
        At least 1; None: torch's own choice, because OMP_NUM_THREADS is set.
    Source: ours.
    """
    if config.learner_threads is not None:
        threads: int = config.learner_threads
        return threads
    if os.environ.get("OMP_NUM_THREADS"):
        return None
    # One core is for Ray's own processes.
    return max(1, usable_cores() - busy_cores(config) - 1)


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_cores(config: Any) -> int:
    """Cores that other processes of a run with a local learner use while it trains.

    Args:
        config: With RLlib's numbers of processes and of CPUs for each.
    Returns:
        Those of remote env-runners, and of evaluation's where it runs beside training.
    """
    busy = config.num_env_runners * config.num_cpus_per_env_runner
    if config.evaluation_parallel_to_training:
        overrides = config.evaluation_config or {}
        cpus = overrides.get("num_cpus_per_env_runner", config.num_cpus_per_env_runner)
        busy += config.evaluation_num_env_runners * cpus
    cores: int = math.ceil(busy)
    return cores
