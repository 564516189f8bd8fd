"""From names, JSON, flags or a Python file to a checked ``AlgorithmConfig``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_fmq.cli.errors import CommandError, root_cause, suggestion
from rllib_fmq.cli.options import TrainOptions
from rllib_fmq.python_files import run_python_file

# Config keys of the flags; those of our four methods, and those that every algorithm has.
_OWN_FLAGS = {
    "dataset": "dataset",
    "filter_key": "dataset_filter",
    "initial_checkpoint": "initial_checkpoint",
    "offline_updates": "offline_updates",
    "online_env_steps": "online_env_steps",
    "eta": "eta",
    "beta": "beta",
}
_COMMON_FLAGS = {
    "seed": "seed",
    "num_env_runners": "num_env_runners",
    "num_learners": "num_learners",
    "num_gpus_per_learner": "num_gpus_per_learner",
    "evaluation_interval": "evaluation_interval",
    "evaluation_episodes": "evaluation_duration",
}
# Flags that become arguments of `make_env`.
_ENVIRONMENT_FLAGS = ("success_fn", "max_episode_steps")
# Keys that RLlib's `update_from_dict` understands beside a config's attributes.
_RLLIB_KEYS = ("multiagent", "exploration_config", "callbacks", "optimizer")


@dataclass(frozen=True)
class TrainRequest:
    """What is to be run; nothing is checked yet but names and keys."""

    config: Any
    """``AlgorithmConfig``, flags applied; values may be search spaces."""
    stop: Mapping[str, Any]
    num_samples: int
    tune_config: Any = None
    """``ray.tune.TuneConfig`` or None."""

    @property
    def algorithm(self) -> str:
        """Name of the algorithm."""
        return str(self.config.algo_class.__name__)


def from_names(algo: str, env: str | None, options: TrainOptions) -> TrainRequest:
    """The request of ``rllib train --algo ALGO --env ENV``.

    Args:
        algo: Name of an algorithm.
        env: Name of an environment; None if the config names it.
        options: All other options.
    Returns:
        The request.
    Raises:
        CommandError: If a name, a key or a JSON text is wrong, with a suggestion.
    """
    stop = parse_stop(options.stop)
    values = parse_config(options.config)
    config = default_config(algo)
    if env is not None:
        config.environment(env=env)
    _update(config, values, algo)
    _apply_flags(config, options)
    if config.env is None and config.input_ == "sampler":
        raise CommandError(
            "--env is missing, such as cube-single-play-singletask-task2-v0 or CartPole-v1.",
            exit_code=2,
        )
    return TrainRequest(config, stop, options.num_samples or 1)


def from_file(path: Path, options: TrainOptions) -> TrainRequest:
    """The request of ``rllib train file PATH``.

    Args:
        path: Python file that defines ``config`` and, if need be, ``stop``, ``num_samples``,
            ``tune_config``.
        options: They go before what the file says.
    Returns:
        The request.
    Raises:
        CommandError: If the file is missing, fails, or defines no config.
    """
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
    from ray.tune import TuneConfig

    from rllib_fmq.algorithms.rllib_keys import is_whole
    from rllib_fmq.registration import register_algorithms

    register_algorithms()
    content = vars(run_python_file(path, "rllib_train_file"))
    config = content.get("config")
    if not isinstance(config, AlgorithmConfig):
        raise CommandError(
            f"{path} defines {'no `config`' if config is None else '`config` = ' + repr(config)}: "
            "expected an AlgorithmConfig, such as `config = FMQConfig().environment(...)`."
        )
    if config.algo_class is None:
        raise CommandError(f"{path}: `config` names no algorithm; use FMQConfig() or PPOConfig().")
    stop = content.get("stop") or {}
    if not isinstance(stop, Mapping):
        raise CommandError(f"{path}: `stop` is {stop!r}, expected a dict.")
    stop = _checked_stop(f"{path}: `stop`", stop)
    samples = content.get("num_samples", 1)
    if not is_whole(samples, 1):
        raise CommandError(f"{path}: `num_samples` is {samples!r}, expected a whole number >= 1.")
    tune_config = content.get("tune_config")
    if not isinstance(tune_config, TuneConfig | None):
        raise CommandError(
            f"{path}: `tune_config` is {tune_config!r}, expected a ray.tune.TuneConfig."
        )
    _update(config, parse_config(options.config), config.algo_class.__name__)
    _apply_flags(config, options)
    return TrainRequest(
        config,
        parse_stop(options.stop) if options.stop else stop,
        options.num_samples or samples,
        tune_config,
    )


def default_config(algo: str) -> Any:
    """Default config of an algorithm, ours or RLlib's.

    Args:
        algo: Its name.
    Returns:
        A new ``AlgorithmConfig``.
    Raises:
        CommandError: If there is no such algorithm.
    """
    from ray.rllib.algorithms.registry import ALGORITHMS

    from rllib_fmq.registration import register_algorithms

    register_algorithms()
    if algo not in ALGORITHMS:
        same = [name for name in ALGORITHMS if name.lower() == algo.lower()]
        hint = f" Did you mean {same[0]!r}?" if same else suggestion(algo, ALGORITHMS)
        raise CommandError(
            f"unknown algorithm {algo!r}.{hint} Known: {', '.join(sorted(ALGORITHMS))}."
        )
    return ALGORITHMS[algo]()[1]  # class and default config


def is_flow_map(config: Any) -> bool:
    """Whether a config is of one of our four methods."""
    from rllib_fmq.algorithms.config import FlowMapConfig

    return isinstance(config, FlowMapConfig)


def parse_config(text: str | None) -> dict[str, Any]:
    """Read ``--config``: JSON, or the name of a JSON file.

    Args:
        text: As given.
    Returns:
        Keys and values.
    Raises:
        CommandError: If it is neither.
    """
    if text is None:
        return {}
    if text.lstrip().startswith("{"):
        return _parse_json("--config", text)
    path = Path(text).expanduser()
    if not path.is_file():
        raise CommandError(
            f"--config {text!r} is neither JSON such as '{{\"lr\": 0.001}}' nor an existing file."
        )
    try:
        return _parse_json(f"--config {path}", path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise CommandError(f"--config {path} is not valid JSON: it is no UTF-8 text.") from error


def parse_stop(text: str | None) -> dict[str, Any]:
    """Read ``--stop``.

    Args:
        text: JSON, or None.
    Returns:
        Result key -> number at which a trial stops, or True.
    Raises:
        CommandError: If it is no JSON object of such values.
    """
    if text is None:
        return {}
    return _checked_stop("--stop", _parse_json("--stop", text))


def _checked_stop(what: str, stop: Mapping[str, Any]) -> dict[str, Any]:
    from rllib_fmq.algorithms.rllib_keys import is_finite

    for key, value in stop.items():
        # Tune stops at values that are not smaller: False would stop at once.
        if value is not True and not is_finite(value):
            raise CommandError(f"{what}: {key!r} is {value!r}, expected a number, or True.")
    return dict(stop)


def _parse_json(what: str, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandError(
            f"{what} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except RecursionError as error:
        raise CommandError(f"{what} is nested too deeply.") from error
    if not isinstance(content, dict):
        raise CommandError(f"{what} must be a JSON object such as '{{\"lr\": 0.001}}', not {text}.")
    return content


def _update(config: Any, values: Mapping[str, Any], algorithm: str) -> None:
    """``update_from_dict``, which itself takes unknown keys without a word."""
    known = {key for key in vars(config) if not key.startswith("_")}
    known |= {k for k in dir(type(config)) if isinstance(getattr(type(config), k, None), property)}
    known |= set(_RLLIB_KEYS)
    for key in values:
        if key not in known and config._translate_special_keys(key, warn_deprecated=False) == key:
            raise CommandError(f"{algorithm} has no config key {key!r}.{suggestion(key, known)}")
    for key, value in values.items():
        try:
            config.update_from_dict({key: value})
        except Exception as error:  # whatever a setter makes of a wrong value
            raise CommandError(f"--config: {key}={value!r}: {root_cause(error)}") from error


def _apply_flags(config: Any, options: TrainOptions) -> None:
    own = is_flow_map(config)
    for name, key in _OWN_FLAGS.items():
        value = getattr(options, name)
        if value is None:
            continue
        if not own:
            raise CommandError(
                f"--{name.replace('_', '-')} is for FMQ, QGBS, MVP and QC: "
                f"{config.algo_class.__name__} has no such setting (its own go into --config).",
                exit_code=2,
            )
        setattr(config, key, str(value) if isinstance(value, Path) else value)
    for name in _ENVIRONMENT_FLAGS:
        value = getattr(options, name)
        if value is not None:
            config.env_config = {**config.env_config, name: value}
    for name, key in _COMMON_FLAGS.items():
        value = getattr(options, name)
        if value is not None:
            setattr(config, key, value)
    if options.evaluation_interval == 0:
        config.evaluation_interval = None
    if options.initial_checkpoint is not None and options.offline_updates is None:
        config.offline_updates = 0
    if own:
        _make_paths_absolute(config)


def _make_paths_absolute(config: Any) -> None:
    """Trials run in folders of their own."""
    from rllib_fmq.algorithms.paths import AUTO, absolute_path
    from rllib_fmq.data.downloads.locate import DATA_DIR_VARIABLE
    from rllib_fmq.rollout.checkpoints import find_checkpoint

    config.dataset = absolute_path(config.dataset)
    if config.dataset == AUTO and config.dataset_dir is None:
        # The processes of a Ray that is joined may have been started without it.
        config.dataset_dir = os.environ.get(DATA_DIR_VARIABLE) or None
    config.dataset_dir = absolute_path(config.dataset_dir, "dataset_dir")
    checkpoint = absolute_path(config.initial_checkpoint, "initial_checkpoint")
    if checkpoint is not None:
        config.initial_checkpoint = str(find_checkpoint(config.initial_checkpoint))
