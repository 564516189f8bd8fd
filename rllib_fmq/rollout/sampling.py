"""One round of online collection: what an env-runner is asked for, and what it brings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray

from rllib_fmq.rollout.faults import EnvFaultLimitError

NUM_FRAGMENTS_LOST = "num_fragments_lost"
"""Metric: unfinished fragments of runners that died or hung, over the whole run."""
POLICY_VERSION = "_rllib_fmq_policy_version"
"""Attribute of an env-runner: the version of its weights, where they came with a request."""


class PolicyVersion(NamedTuple):
    """The weights that a round is to be collected with."""

    number: int = 0
    """Counts from 1; 0: whatever weights the runner has."""
    state: Any = None
    """Reference to what ``EnvRunner.set_state`` takes: weights and their RLlib number."""


@dataclass
class SampledRound:
    """What a round of collection brought."""

    fragments: list[list[Any]] = field(default_factory=list)
    """Of each runner that answered, its episode fragments. They are this process' own: the
    death of the runner that collected them does not take them away."""
    num_steps: int = 0
    """Steps in ``fragments``."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """Of each runner that answered."""
    num_fragments_lost: int = 0
    """Fragments, one an environment, of runners that were asked and gave no samples."""
    policy_lag: int = 0
    """Versions that the newest policy was ahead of the one that collected."""


@dataclass(frozen=True)
class Answer:
    """What one env-runner returned."""

    episodes: list[Any] = field(default_factory=list)
    metrics: dict[str, Any] | None = None
    """None where the runner could not collect."""
    error: str = ""


def collect(runner: Any, num_steps: int) -> Answer:
    """Collect on a runner of this process.

    Args:
        runner: A ``SingleAgentEnvRunner`` with the weights to act with.
        num_steps: Primitive steps, >= 1; every environment takes the same number of them.
    Raises:
        EnvFaultLimitError: If its environments failed too often.
    """
    return Answer(runner.sample(num_timesteps=num_steps), runner.get_metrics())


def collect_remotely(
    runner: Any, *, num_steps: int, policy: PolicyVersion, after_loss: bool = False
) -> Answer:
    """The same in the runner's own process.

    Args:
        runner: See ``collect``.
        num_steps: See ``collect``.
        policy: The runner takes it over if it is newer than its own.
        after_loss: Whether what it collected before never arrived: if it is still the same
            process, its episodes must not go on, since the replay would join them over the gap.
    """
    if getattr(runner, "awaits_weights", False):
        return Answer()
    if policy.number > getattr(runner, POLICY_VERSION, 0):
        runner._weights_seq_no = 0  # a restored run's counts from an earlier number
        runner.set_state(ray.get(policy.state))
        setattr(runner, POLICY_VERSION, policy.number)
    if after_loss and hasattr(runner, "drop_episodes"):
        runner.drop_episodes()
    try:
        return collect(runner, num_steps)
    except EnvFaultLimitError as error:  # raised here, it would end and restart this process
        return Answer(error=str(error))
