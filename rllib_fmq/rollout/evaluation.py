"""Evaluation: exactly N episodes, each from its own seed, with any selector."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.env.env_context import EnvContext
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EVALUATION_RESULTS
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.tune.registry import ENV_CREATOR, _global_registry

from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.rollout.callbacks import is_success

EVALUATION_ENV = "_rllib_fmq_evaluation_env"


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
        env: Not vectorised; Dict observations are flattened here.
        seeds: One an episode.
        selector: How actions are chosen; None: the module's own for evaluation.
        on_step: Called with (env, step) after the reset (step 0) and after every step.
        on_episode: Called with each outcome as it comes.
    Returns:
        Outcomes in the order of ``seeds``.
    """
    chosen = selector or module.evaluation_selector
    device = next(module.actor.parameters()).device
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    outcomes = []
    for seed in seeds:
        obs, _ = env.reset(seed=seed)
        module.seed_planning(seed)
        queue: deque[np.ndarray[Any, Any]] = deque()
        total, steps, plans, seconds, nfe = 0.0, 0, 0, 0.0, chosen.nfe
        success: bool | None = None
        done = False
        if on_step:
            on_step(env, 0)
        while not done:
            if not queue:
                flat = gym.spaces.flatten(env.observation_space, obs)
                batch = torch.as_tensor(np.asarray(flat, dtype=np.float32), device=device)[None]
                start = time.perf_counter()
                result = module.plan(batch, chosen)
                chunk = result.actions.view(module.horizon_length, -1).cpu().numpy()
                seconds += time.perf_counter() - start
                plans, nfe = plans + 1, result.nfe
                queue.extend(chunk)
            unit = queue.popleft().reshape(low.shape)
            action = np.clip(low + 0.5 * (unit + 1.0) * (high - low), low, high)
            obs, reward, terminated, truncated, info = env.step(action.astype(low.dtype))
            total, steps = total + float(reward), steps + 1
            report = is_success(info)
            if report is not None:
                success = bool(success) or report
            done = bool(terminated or truncated)
            if on_step:
                on_step(env, steps)
        outcome = EpisodeOutcome(seed, success, total, steps, plans, seconds, nfe)
        outcomes.append(outcome)
        if on_episode:
            on_episode(outcome)
    return outcomes


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
    seeds = [config.evaluation_seed + k for k in range(config.evaluation_duration)]
    group = runners if runners is not None else algorithm.env_runner_group
    remote = group.num_healthy_remote_workers() if group else 0

    def run(runner: Any, share: Sequence[int]) -> list[EpisodeOutcome]:
        env = getattr(runner, EVALUATION_ENV, None)
        if env is None:
            env = make_single_env(runner.config)
            setattr(runner, EVALUATION_ENV, env)
        return evaluate_episodes(runner.module, env, share)

    if remote:
        shares = [seeds[k::remote] for k in range(remote)]
        outcomes = [
            outcome
            for part in group.foreach_env_runner(
                [lambda runner, share=share: run(runner, share) for share in shares],
                local_env_runner=False,
            )
            for outcome in part
        ]
    else:
        outcomes = run(group.local_env_runner, seeds)
    summary = summarise(outcomes)
    summary |= {
        "num_updates_at_evaluation": float(algorithm.num_updates),
        "num_online_env_steps_at_evaluation": float(algorithm.num_online_env_steps),
    }
    # RLlib reads back only what was aggregated, not what was logged to its own logger.
    logger = MetricsLogger(root=False)
    logger.log_dict(summary, window=1)
    algorithm.metrics.aggregate([logger.reduce()], key=(EVALUATION_RESULTS, ENV_RUNNER_RESULTS))
    steps = sum(o.length for o in outcomes)
    return {ENV_RUNNER_RESULTS: summary}, steps, steps
