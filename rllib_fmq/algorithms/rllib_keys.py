"""Ranges of RLlib's own config keys, which RLlib itself finds out of range in a running trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

if TYPE_CHECKING:
    from rllib_fmq.algorithms.config import FlowMapConfig

_WHOLE_AT_LEAST = {
    "num_env_runners": 0,
    "num_envs_per_env_runner": 1,
    "num_learners": 0,
    "evaluation_num_env_runners": 0,
    "max_num_env_runner_restarts": 0,
    "num_consecutive_env_runner_failures_tolerance": 0,
}
_NUMBER_AT_LEAST_0 = (
    "num_cpus_per_env_runner",
    "num_gpus_per_env_runner",
    "num_gpus_per_learner",
    "num_cpus_for_main_process",
    "delay_between_env_runner_restarts_s",
)
_GRADIENT_CLIPS = ("value", "norm", "global_norm")


def is_whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number, NumPy's too (no bool), that is not below ``least``."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number, NumPy's too (no bool), that a float can hold."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def use_python_numbers(config: FlowMapConfig) -> None:
    """Turn a config's NumPy numbers into Python's, which JSON and all later checks know.

    Args:
        config: Its ``env_config`` is the environment's own, and stays as it is.
    """
    for key, value in list(vars(config).items()):
        if key != "env_config" and (plain := _python_numbers(value)) is not value:
            setattr(config, key, plain)


def _python_numbers(value: Any) -> Any:
    """The same object where there is nothing to change."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        parts = [_python_numbers(part) for part in value]
        changed = any(new is not old for new, old in zip(parts, value, strict=True))
        return type(value)(parts) if changed else value
    if type(value) is dict:
        items = {key: _python_numbers(part) for key, part in value.items()}
        return items if any(items[key] is not value[key] for key in items) else value
    return value


def check_rllib_keys(config: FlowMapConfig) -> None:
    """Refuse values of RLlib's keys that no run could use.

    Args:
        config: Before RLlib's own checks, some of which compare a text with a number.
    Raises:
        ValueError: Names the key, its value and what was expected.
    """
    for key, least in _WHOLE_AT_LEAST.items():
        if not is_whole(value := getattr(config, key), least):
            raise ValueError(f"{key}={value!r}: must be a whole number >= {least}.")
    for key in _NUMBER_AT_LEAST_0:
        if not is_finite(value := getattr(config, key)) or value < 0:
            raise ValueError(f"{key}={value!r}: must be a number >= 0.")
    cpus = config.num_cpus_per_learner
    if cpus != "auto" and (not is_finite(cpus) or cpus < 0):
        raise ValueError(f"num_cpus_per_learner={cpus!r}: must be a number >= 0, or 'auto'.")
    fragment: Any = config.rollout_fragment_length
    if fragment != "auto" and not is_whole(fragment, 1):
        raise ValueError(
            f"rollout_fragment_length={fragment!r}: must be a whole number >= 1, or 'auto'."
        )
    interval = config.evaluation_interval
    if interval is not None and not is_whole(interval, 0):
        raise ValueError(
            f"evaluation_interval={interval!r}: must be a whole number >= 1, or None for no "
            "evaluation."
        )
    episodes = config.evaluation_duration
    if episodes != "auto" and not is_whole(episodes, 1):
        raise ValueError(f"evaluation_duration={episodes!r}: must be a whole number >= 1.")
    if config._use_msgpack_checkpoints:
        raise ValueError(
            "_use_msgpack_checkpoints=True: must be False; RLlib's reader of msgpack may unpickle "
            "what a file holds, so checkpoints here have none."
        )
    timeout = config.sample_timeout_s
    if timeout is not None and (not is_finite(timeout) or timeout <= 0):
        raise ValueError(
            f"sample_timeout_s={timeout!r}: must be a number > 0 in seconds, or None for no limit."
        )
    kind = config.env_runner_cls
    if kind is not None and not (isinstance(kind, type) and issubclass(kind, SingleAgentEnvRunner)):
        raise ValueError(
            f"env_runner_cls={kind!r}: expected a subclass of SingleAgentEnvRunner, or None."
        )
    if not isinstance(config.env_config, Mapping):
        raise ValueError(
            f"env_config={config.env_config!r}: expected a dict of the environment's arguments."
        )
    _check_shared_gpu(config)
    _check_optimiser(config)


def _check_shared_gpu(config: FlowMapConfig) -> None:
    """Ray fills a GPU before it takes another, and NCCL refuses two ranks on one."""
    share, number = config.num_gpus_per_learner, config.num_learners
    # STRICT_SPREAD: each learner of a trial is on a machine of its own.
    if number > 1 and 0 < share <= 0.5 and config.placement_strategy != "STRICT_SPREAD":
        raise ValueError(
            f"num_gpus_per_learner={share!r} with num_learners={number}: two of them would share a "
            "GPU, which NCCL refuses; several learners with GPUs always use it. Give each more "
            "than 0.5, use one learner, or learners without GPUs."
        )


def _check_optimiser(config: FlowMapConfig) -> None:
    rate = config.lr
    # A list is a schedule, which RLlib checks.
    if not isinstance(rate, list | tuple) and (not is_finite(rate) or rate <= 0):
        raise ValueError(f"lr={rate!r}: must be a number > 0.")
    clip = config.grad_clip
    if clip is not None and (not is_finite(clip) or clip <= 0):
        raise ValueError(f"grad_clip={clip!r}: must be a number > 0, or None.")
    if config.grad_clip_by not in _GRADIENT_CLIPS:
        raise ValueError(f"grad_clip_by={config.grad_clip_by!r}: choose one of {_GRADIENT_CLIPS}.")
