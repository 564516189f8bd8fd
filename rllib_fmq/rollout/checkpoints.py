"""Policies out of checkpoints, without building an algorithm: no dataset, no learner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.env.env_context import EnvContext
from ray.tune.registry import ENV_CREATOR, _global_registry

from rllib_fmq.checkpointing.find import find_checkpoint as find_checkpoint
from rllib_fmq.checkpointing.plain_pickle import load_plain_file
from rllib_fmq.checkpointing.policy_file import PolicyRecord, record_policy
from rllib_fmq.checkpointing.trust import (
    MODULE,
    check_env_name,
    read_record,
)
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.rollout.checked_env import CheckedEnv
from rllib_fmq.rollout.evaluation import EpisodeOutcome, evaluate_episodes, make_single_env
from rllib_fmq.tasks.registry import make_env


def load_policy(
    path: str | Path, trust: bool = False, config: Any = None
) -> tuple[FlowMapModule, PolicyRecord]:
    """Rebuild the policy that a checkpoint holds, from plain data only.

    Args:
        path: See ``find_checkpoint``.
        trust: Unpickle RLlib's config, which can run code, where ``policy.json`` is missing or
            cannot describe the policy or its environment.
        config: ``FlowMapConfig`` of the run, from a caller who has it: then only parameters are
            read from the checkpoint.
    Returns:
        The module, on the CPU, and what it was trained in.
    Raises:
        FileNotFoundError: If there is no checkpoint.
        TrustNeededError: If it takes ``trust``.
        ValueError: If it is damaged or of another algorithm.
    """
    checkpoint = find_checkpoint(path)
    record = read_record(checkpoint, trust) if config is None else _record_of(config)
    file = checkpoint / MODULE / "module_state.pkl"
    try:
        state = load_plain_file(file)
        if bad := [name for name, array in state.items() if not np.isfinite(array).all()]:
            raise ValueError(f"{bad[0]} holds numbers that are not finite")
        # Without memory, so that a record of other sizes than the parameters' costs none.
        with torch.device("meta"):
            _build(record).load_state_dict(
                {name: torch.empty(array.shape) for name, array in state.items()}, assign=True
            )
        module = _build(record)
        module.set_state(state)
    except Exception as error:  # whatever damaged numbers and names make of networks
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot load checkpoint {checkpoint}: {file.relative_to(checkpoint)} is missing, "
            f"damaged or does not fit policy.json ({type(error).__name__}: {reason[:300]})."
        ) from error
    module.eval()
    return module, record


def _build(record: PolicyRecord) -> FlowMapModule:
    return record.module_class(
        observation_space=record.observation_space,
        action_space=record.action_space,
        inference_only=False,
        model_config=dict(record.model_config),
    )


def _record_of(config: Any) -> PolicyRecord:
    env: Any = make_single_env(config)
    try:
        arguments = {
            "observation_space": gym.spaces.flatten_space(env.observation_space),
            "action_space": env.action_space,
            "model_config": config.model_config,
        }
    finally:
        env.close()
    return record_policy(config, FlowMapModule, arguments)


def make_checkpoint_env(
    record: PolicyRecord, *, trust: bool = False, **kwargs: Any
) -> gym.Env[Any, Any]:
    """The environment that a policy was trained in.

    Args:
        record: From ``load_policy``.
        trust: Import and call what the record names as code ("module:factory", ``success_fn``).
        **kwargs: Go to the environment on top of the record's ``env_config``.
    Returns:
        A new environment, not vectorised.
    Raises:
        TrustNeededError: If it takes ``trust``.
        ValueError: If the environment is not known in this process.
    """
    settings = {**record.env_config, **kwargs}
    if not isinstance(record.env, str) and record.env is not None:
        env: gym.Env[Any, Any] = record.env(EnvContext(settings, worker_index=0))
        return env
    if not trust:
        check_env_name(record)
    if _global_registry.contains(ENV_CREATOR, record.env):
        env = _global_registry.get(ENV_CREATOR, record.env)(EnvContext(settings, worker_index=0))
        return env
    return make_env(str(record.env), **settings)


def check_selector(record: PolicyRecord, selector: SelectorSettings) -> None:
    """Refuse a selector that the policy cannot use.

    Args:
        record: From ``load_policy``.
        selector: The selector asked for.
    Raises:
        ValueError: If the policy was trained on the diagonal only and the selector jumps.
    """
    if not record.jumps_trained and selector.kind != "euler":
        raise ValueError(
            f"selector {selector.kind!r} jumps along the flow map, but this "
            f"{record.algorithm} policy was trained on the diagonal only "
            "(lambda_sd=0): use the selector 'euler'."
        )


def evaluate_checkpoint(
    path: str | Path,
    selector: SelectorSettings | None,
    seeds: Sequence[int],
    num_workers: int = 0,
    on_episode: Callable[[EpisodeOutcome], None] | None = None,
    trust: bool = False,
    config: Any = None,
) -> list[EpisodeOutcome]:
    """Run one episode for each seed with the policy of a checkpoint.

    Where the environment fails, it is made anew and the episode tried again, with the same seed,
    twice.

    Args:
        path: See ``find_checkpoint``.
        selector: How actions are chosen; None: as in the run's own evaluations.
        seeds: One an episode.
        num_workers: Ray actors that share the seeds; 0 runs them in this process. Outcomes do
            not depend on it. Ray is started, and stopped, here if it is not running.
        on_episode: Called in this process with each outcome as it comes.
        trust: See ``load_policy`` and ``make_checkpoint_env``.
        config: See ``load_policy``; the environment is made from it as well, and its
            ``env_step_timeout_s`` holds. A checkpoint alone names no time limit.
    Returns:
        Outcomes in the order of ``seeds``.
    Raises:
        EnvFaultLimitError: If the environment failed in all attempts at an episode.
        FileNotFoundError: If there is no checkpoint.
        TrustNeededError: If it takes ``trust``.
        ValueError: If it is damaged or the selector does not fit it.
    """
    module, record = load_policy(path, trust, config)
    check_selector(record, selector or module.evaluation_selector)
    trusted = trust or config is not None
    timeout_s = None if config is None else config.env_step_timeout_s
    if num_workers > 0:
        if not trusted:
            check_env_name(record)  # before processes are started
        evaluator = (module, record, trusted, timeout_s)
        return _evaluate_in_parallel(
            evaluator, selector, seeds, min(num_workers, len(seeds)), on_episode
        )
    env = CheckedEnv(partial(make_checkpoint_env, record, trust=trusted), timeout_s)
    try:
        return evaluate_episodes(module, env, seeds, selector, on_episode=on_episode)
    finally:
        env.close()


class _Evaluator:
    """One worker: a policy and an environment that serve many episodes."""

    def __init__(
        self, module: FlowMapModule, record: PolicyRecord, trust: bool, timeout_s: float | None
    ) -> None:
        self._module = module
        self._env = CheckedEnv(partial(make_checkpoint_env, record, trust=trust), timeout_s)

    def run(self, seed: int, selector: SelectorSettings | None) -> EpisodeOutcome:
        return evaluate_episodes(self._module, self._env, [seed], selector)[0]


def _evaluate_in_parallel(
    evaluator: tuple[FlowMapModule, PolicyRecord, bool, float | None],
    selector: SelectorSettings | None,
    seeds: Sequence[int],
    num_workers: int,
    on_episode: Callable[[EpisodeOutcome], None] | None,
) -> list[EpisodeOutcome]:
    import ray

    started = not ray.is_initialized()
    if started:
        ray.init(
            num_cpus=num_workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    workers: list[Any] = []
    try:
        worker_class = ray.remote(num_cpus=1)(_Evaluator)
        workers = [worker_class.remote(*evaluator) for _ in range(num_workers)]
        waiting = list(enumerate(seeds))[::-1]
        outcomes: list[EpisodeOutcome | None] = [None] * len(seeds)
        running: dict[Any, tuple[int, Any]] = {}

        def hand_out(worker: Any) -> None:
            if waiting:
                index, seed = waiting.pop()
                running[worker.run.remote(seed, selector)] = (index, worker)

        for worker in workers:
            hand_out(worker)
        while running:
            # Episodes differ much in length: whoever is done takes the next seed.
            ready, _ = ray.wait(list(running), num_returns=1)
            index, worker = running.pop(ready[0])
            outcome: EpisodeOutcome = ray.get(ready[0])
            outcomes[index] = outcome
            if on_episode:
                on_episode(outcome)
            hand_out(worker)
        return [outcome for outcome in outcomes if outcome is not None]
    finally:
        for worker in workers:
            ray.kill(worker)
        if started:
            ray.shutdown()
