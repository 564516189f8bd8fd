"""Evaluation: exactly N episodes, each from its own seed, with any selector."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.env.env_context import EnvContext
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EVALUATION_RESULTS
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.tune.registry import ENV_CREATOR, _global_registry

from rllib_fmq.data.loading import unscale_actions
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.rollout.callbacks import is_success
from rllib_fmq.rollout.checked_env import CheckedEnv
from rllib_fmq.rollout.faults import RESET_ERROR, EnvFault, EnvFaultLimitError, describe

EVALUATION_ENV = "_rllib_fmq_evaluation_env"
ATTEMPTS = 3
"""At an episode whose environment fails, and at making an environment."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpisodeOutcome:
    """One evaluated episode; lengths are primitive environment steps."""

    seed: int
    success: bool | None
    """None where the environment reports no success."""
    episode_return: float
    length: int
    num_plans: int
    planning_seconds: float
    """Wall time of all plans together."""
    nfe: int
    """Actor evaluations a decision."""
    plan_seconds: tuple[float, ...] = ()
    """Wall time of each plan."""
    faults: tuple[str, ...] = ()
    """Of the environment in earlier attempts at this episode."""


def evaluate_episodes(
    module: FlowMapModule,
    env: gym.Env[Any, Any],
    seeds: Sequence[int],
    selector: SelectorSettings | None = None,
    on_step: Callable[[gym.Env[Any, Any], int], None] | None = None,
    on_episode: Callable[[EpisodeOutcome], None] | None = None,
) -> list[EpisodeOutcome]:
    """Run one episode for each seed.

    The seed sets both the environment's reset and the policy's noise, so an outcome does
    not depend on which worker ran it or what ran before it.

    Args:
        module: Policy with its critics.
        env: Not vectorised; Dict observations are flattened here. A ``CheckedEnv`` that fails is
            made anew and the episode tried again, with the same seed, twice.
        seeds: One an episode.
        selector: How actions are chosen; None: the module's own for evaluation.
        on_step: Called with (env, step) after the reset (step 0) and after every step.
        on_episode: Called with each outcome as it comes.
    Returns:
        Outcomes in the order of ``seeds``.
    Raises:
        EnvFaultLimitError: If a ``CheckedEnv`` failed in all attempts at an episode.
    """
    chosen = selector or module.evaluation_selector
    outcomes = []
    for seed in seeds:
        outcome = _try_episode(module, env, seed, chosen, on_step)
        outcomes.append(outcome)
        if on_episode:
            on_episode(outcome)
    return outcomes


def _try_episode(
    module: FlowMapModule,
    env: gym.Env[Any, Any],
    seed: int,
    selector: SelectorSettings,
    on_step: Callable[[gym.Env[Any, Any], int], None] | None,
) -> EpisodeOutcome:
    faults: list[str] = []
    while True:
        try:
            if faults and isinstance(env, CheckedEnv):
                env.renew()
            outcome = _run_episode(module, env, seed, selector, on_step)
            return replace(outcome, faults=tuple(faults))
        except EnvFault as fault:
            faults.append(fault.kind)
            logger.warning("evaluation of the episode with seed %d: %s", seed, fault)
            if len(faults) == ATTEMPTS:
                raise EnvFaultLimitError(
                    f"evaluation of the episode with seed {seed} failed {ATTEMPTS} times: {fault}. "
                    "Repair the environment, or take other episodes with evaluation_seed."
                ) from fault


def _run_episode(
    module: FlowMapModule,
    env: gym.Env[Any, Any],
    seed: int,
    selector: SelectorSettings,
    on_step: Callable[[gym.Env[Any, Any], int], None] | None,
) -> EpisodeOutcome:
    device = next(module.actor.parameters()).device
    space = env.action_space
    assert isinstance(space, gym.spaces.Box)
    # Its own generator, so that evaluating leaves the module's planning noise as it was.
    generator = torch.Generator(device).manual_seed(seed)
    obs, _ = env.reset(seed=seed)
    queue: deque[NDArray[np.float32]] = deque()
    total, steps = 0.0, 0
    seconds: list[float] = []
    success: bool | None = None
    done = False
    if on_step:
        on_step(env, 0)
    while not done:
        if not queue:
            flat = gym.spaces.flatten(env.observation_space, obs)
            batch = torch.as_tensor(np.asarray(flat, dtype=np.float32), device=device)[None]
            start = time.perf_counter()
            chunks = module.plan(batch, selector, generator).actions.cpu()
            seconds.append(time.perf_counter() - start)
            scaled = chunks.numpy().reshape(module.horizon_length, -1)
            queue.extend(unscale_actions(scaled, space.low.ravel(), space.high.ravel()))
        action = queue.popleft().reshape(space.shape).astype(space.dtype)
        # Bounds in float64 need not be float32 numbers.
        action = np.clip(action, space.low, space.high)
        obs, reward, terminated, truncated, info = env.step(action)
        total, steps = total + float(reward), steps + 1
        report = is_success(info)
        if report is not None:
            success = bool(success) or report
        done = bool(terminated or truncated)
        if on_step:
            on_step(env, steps)
    return EpisodeOutcome(
        seed, success, total, steps, len(seconds), sum(seconds), selector.nfe, tuple(seconds)
    )


def summarise(outcomes: Sequence[EpisodeOutcome]) -> dict[str, float]:
    """Means over episodes.

    Args:
        outcomes: At least one.
    Returns:
        ``num_episodes``, ``episode_return_mean``, ``episode_len_mean``, ``nfe``,
        ``planning_latency_ms`` (mean over decisions), and ``success_rate`` where the
        environment reports success.
    """
    plans = sum(o.num_plans for o in outcomes)
    summary = {
        "num_episodes": float(len(outcomes)),
        "episode_return_mean": float(np.mean([o.episode_return for o in outcomes])),
        "episode_len_mean": float(np.mean([o.length for o in outcomes])),
        "planning_latency_ms": 1e3 * sum(o.planning_seconds for o in outcomes) / plans,
        "nfe": float(outcomes[0].nfe),
    }
    successes = [o.success for o in outcomes if o.success is not None]
    if successes:
        summary["success_rate"] = float(np.mean(successes))
    return summary


def make_single_env(config: Any) -> gym.Env[Any, Any]:
    """The environment of a config, not vectorised.

    Args:
        config: An ``AlgorithmConfig``.
    Returns:
        A new environment.
    """
    context = EnvContext(dict(config.env_config), worker_index=0)
    if isinstance(config.env, str) and _global_registry.contains(ENV_CREATOR, config.env):
        env: gym.Env[Any, Any] = _global_registry.get(ENV_CREATOR, config.env)(context)
        return env
    if callable(config.env):
        env = config.env(context)
        return env
    return gym.make(config.env, **config.env_config)


def evaluate_on_runners(algorithm: Any, runners: Any) -> tuple[dict[str, Any], int, int]:
    """RLlib's ``custom_evaluation_function``: share the seeds among the evaluation runners.

    Args:
        algorithm: The algorithm; its config names the seeds and the number of episodes.
        runners: Its evaluation ``EnvRunnerGroup``, already holding the newest weights; None
            where there is none.
    Returns:
        Results, environment steps, agent steps.
    """
    config = algorithm.config
    # Read first: in parallel to training, these go on counting.
    evaluated_policy = {
        "num_updates_at_evaluation": float(algorithm.num_updates),
        "num_online_env_steps_at_evaluation": float(algorithm.num_online_env_steps),
    }
    seeds = [config.evaluation_seed + k for k in range(config.evaluation_duration)]
    outcomes = _share(runners if runners is not None else algorithm.env_runner_group, seeds)
    summary = summarise(outcomes)
    summary |= evaluated_policy
    summary["num_env_faults"] = float(sum(len(o.faults) for o in outcomes))
    # RLlib reads back only what was aggregated, not what was logged to its own logger.
    logger = MetricsLogger(root=False)
    logger.log_dict(summary, window=1)
    algorithm.metrics.aggregate([logger.reduce()], key=(EVALUATION_RESULTS, ENV_RUNNER_RESULTS))
    steps = sum(o.length for o in outcomes)
    return {ENV_RUNNER_RESULTS: summary}, steps, steps


def _share(group: Any, seeds: Sequence[int]) -> list[EpisodeOutcome]:
    """One outcome for each seed, in order, also where runners fail meanwhile."""
    outcomes: dict[int, EpisodeOutcome] = {}
    missing = list(seeds)
    while missing and (healthy := group.healthy_worker_ids()):
        shares = [missing[k :: len(healthy)] for k in range(len(healthy))]
        # A runner that fails is marked as unhealthy, and its share is missing here.
        parts = group.foreach_env_runner(
            [lambda runner, share=share: _run_share_remotely(runner, share) for share in shares],
            local_env_runner=False,
            remote_worker_ids=healthy,
        )
        for error in (part for part in parts if isinstance(part, str)):
            raise EnvFaultLimitError(error)
        outcomes |= {outcome.seed: outcome for part in parts for outcome in part}
        missing = [seed for seed in seeds if seed not in outcomes]
    if missing:
        if group.local_env_runner is None:
            raise RuntimeError(
                f"no runner is left to evaluate {len(missing)} of {len(seeds)} episodes: see the "
                "runners' errors above."
            )
        local = _run_share(group.local_env_runner, missing)
        outcomes |= {outcome.seed: outcome for outcome in local}
    return [outcomes[seed] for seed in seeds]


def _run_share_remotely(runner: Any, seeds: Sequence[int]) -> list[EpisodeOutcome] | str:
    """Outcomes, or an error, which as an exception would end the runner's process."""
    try:
        return _run_share(runner, seeds)
    except EnvFaultLimitError as error:
        return str(error)


def _run_share(runner: Any, seeds: Sequence[int]) -> list[EpisodeOutcome]:
    if not seeds:
        return []
    faults: tuple[str, ...] = ()
    env = getattr(runner, EVALUATION_ENV, None)
    if env is None:
        env, faults = _make_checked(runner.config)
        setattr(runner, EVALUATION_ENV, env)
    first, *others = evaluate_episodes(runner.module, env, seeds)
    return [replace(first, faults=faults + first.faults), *others]


def _make_checked(config: Any) -> tuple[CheckedEnv, tuple[str, ...]]:
    """The evaluation's environment, and the kinds of fault in earlier attempts to make it."""
    faults: list[str] = []
    while True:
        try:
            env = CheckedEnv(partial(make_single_env, config), config.env_step_timeout_s)
            return env, tuple(faults)
        except Exception as error:
            faults.append(error.kind if isinstance(error, EnvFault) else RESET_ERROR)
            reason = f"making the environment of evaluation: {describe(error)}"
            logger.warning(reason)
            if len(faults) == ATTEMPTS:
                raise EnvFaultLimitError(
                    f"{reason}. It failed {ATTEMPTS} times: repair the environment."
                ) from error
