"""``policy.json``: what rebuilds a checkpoint's policy and its environment, without a pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow.fs as pafs

from rllib_fmq.nn.flow_map_module import FlowMapModule

POLICY_FILE = "policy.json"
FORMAT_VERSION = 1
_LARGEST = 64 * 2**20
"""Bytes of a file that is read."""
_KINDS = "biuf"
"""Of a Box's dtype."""
_NOT_A_RECORD = (
    *(ValueError, KeyError, TypeError, AttributeError, AssertionError),
    *(RecursionError, OverflowError),
)
"""What reading a damaged file may raise."""


@dataclass(frozen=True)
class PolicyRecord:
    """A policy without its parameters, and what it was trained in."""

    algorithm: str
    """"FMQ", "QGBS", "MVP" or "QC"; the name of its class."""
    observation_space: gym.spaces.Box
    """As the networks see it: flat."""
    action_space: gym.spaces.Box
    model_config: Mapping[str, Any]
    """Of ``FlowMapModule``."""
    lambda_sd: float
    jumps_trained: bool
    """Whether it can act in one step: False where it was trained on the diagonal only."""
    gamma: float
    env: Any = None
    """Name of the environment; a class or a function only if the record is of a config."""
    env_config: Mapping[str, Any] = field(default_factory=dict)
    env_missing: str = ""
    """Why ``env`` and ``env_config`` are not here; empty if they are."""
    module_class: type[FlowMapModule] = FlowMapModule


def record_policy(config: Any, module_class: type, arguments: Mapping[str, Any]) -> PolicyRecord:
    """What a config and its module's arguments say.

    Args:
        config: A ``FlowMapConfig``.
        module_class: Of the policy.
        arguments: Its ``observation_space``, ``action_space`` and ``model_config``.
    """
    return PolicyRecord(
        algorithm=config.algo_class.__name__,
        observation_space=arguments["observation_space"],
        action_space=arguments["action_space"],
        model_config=dict(arguments["model_config"]),
        lambda_sd=float(config.lambda_sd),
        # Other objectives refuse to start from a policy whose jumps were not trained.
        jumps_trained=config.lambda_sd > 0 or config.online_objective != "imitation",
        gamma=float(config.gamma),
        env=config.env,
        env_config=dict(config.env_config),
        module_class=module_class,
    )


def write_policy_file(filesystem: pafs.FileSystem, folder: str, algorithm: Any) -> None:
    """Write ``policy.json`` into a checkpoint that is being made; call it before the manifest.

    Args:
        filesystem: Where the checkpoint is.
        folder: Its path there.
        algorithm: A ``FlowMapAlgorithm``.
    """
    module_class, arguments = algorithm.ask_learners(_module_of)[0]
    content = to_json(record_policy(algorithm.config, module_class, arguments))
    with filesystem.open_output_stream(f"{folder}/{POLICY_FILE}") as file:
        file.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def _module_of(learner: Any) -> tuple[type, dict[str, Any]]:
    module = learner.flow_module
    names = ("observation_space", "action_space", "model_config")
    return type(module), {name: getattr(module, name) for name in names}


def to_json(record: PolicyRecord) -> dict[str, Any]:
    """A record as JSON values; what cannot be one is left out, with the reason.

    Args:
        record: Any.
    """
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "algorithm": record.algorithm,
        "observation_space": _space_to_json(record.observation_space),
        "action_space": _space_to_json(record.action_space),
        "lambda_sd": record.lambda_sd,
        "jumps_trained": record.jumps_trained,
        "gamma": record.gamma,
    }
    kind = record.module_class
    content["module_missing"] = (
        "" if kind is FlowMapModule else f"the policy is a {kind.__module__}.{kind.__qualname__}"
    )
    try:
        # Tuples come back from lists: this model_config is ours.
        content["model_config"] = _json_value("model_config", record.model_config, tuples=True)
    except ValueError as error:
        content["module_missing"] = str(error)
    try:
        content["env"] = _json_value("env", record.env)
        content["env_config"] = _json_value("env_config", record.env_config)
        content["env_missing"] = record.env_missing
    except ValueError as error:
        content["env"], content["env_config"], content["env_missing"] = None, {}, str(error)
    return content


def _json_value(where: str, value: Any, tuples: bool = False) -> Any:
    """The same in JSON.

    Raises:
        ValueError: If JSON would give back something else.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, np.bool | np.integer | np.floating):
        return _json_value(where, value.item())
    if type(value) is list or (tuples and type(value) is tuple):
        return [_json_value(f"{where}[{i}]", item, tuples) for i, item in enumerate(value)]
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {k: _json_value(f"{where}[{k!r}]", item, tuples) for k, item in value.items()}
    raise ValueError(f"{where} is a {type(value).__name__}, which JSON does not have")


def _space_to_json(space: gym.spaces.Box) -> dict[str, Any]:
    return {
        "shape": list(space.shape),
        "dtype": str(space.dtype),
        "low": [_number_to_json(value) for value in space.low.ravel().tolist()],
        "high": [_number_to_json(value) for value in space.high.ravel().tolist()],
    }


def _number_to_json(value: float) -> float | str:
    """A number; JSON has no infinity."""
    return value if math.isfinite(value) else str(value)


def read_policy_file(checkpoint: Path) -> PolicyRecord | None:
    """Read ``policy.json``.

    Args:
        checkpoint: Local folder.
    Returns:
        The record; None where there is no such file (an older checkpoint), or the policy is of a
        class of its own.
    Raises:
        ValueError: If the file is damaged, or of a newer format.
    """
    path = checkpoint / POLICY_FILE
    if not path.is_file():
        return None
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path} is larger than {_LARGEST} bytes: no policy's record is.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format_version"]
        if type(version) is int and version > FORMAT_VERSION:
            raise NewerPolicyFileError(
                f"{path} has format {version}, and this version of rllib-fmq reads "
                f"{FORMAT_VERSION}: upgrade rllib-fmq."
            )
        return None if content["module_missing"] else _from_json(content)
    except NewerPolicyFileError:
        raise
    except _NOT_A_RECORD as e:
        reason = " ".join(str(e).split())
        raise ValueError(f"{path} is damaged ({type(e).__name__}: {reason}).") from e


class NewerPolicyFileError(ValueError):
    """A file that a newer version of this package wrote."""


def _from_json(content: Mapping[str, Any]) -> PolicyRecord:
    env, algorithm = content["env"], content["algorithm"]
    if not (env is None or isinstance(env, str)) or not isinstance(algorithm, str):
        raise ValueError(f"env is {env!r} and algorithm {algorithm!r}, expected names")
    if env is None and not content["env_missing"]:
        raise ValueError("env is missing")
    model_config = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in dict(content["model_config"]).items()
    }
    return PolicyRecord(
        algorithm=algorithm,
        observation_space=_space_from_json(content["observation_space"]),
        action_space=_space_from_json(content["action_space"]),
        model_config=model_config,
        lambda_sd=float(content["lambda_sd"]),
        # Older files do not have it.
        jumps_trained=bool(content.get("jumps_trained", float(content["lambda_sd"]) > 0)),
        gamma=float(content["gamma"]),
        env=env,
        env_config=dict(content["env_config"]),
        env_missing=str(content["env_missing"]),
    )


def _space_from_json(content: Mapping[str, Any]) -> gym.spaces.Box:
    dtype = np.dtype(str(content["dtype"]))
    if dtype.kind not in _KINDS:
        raise ValueError(f"a space of dtype {dtype}")
    shape = tuple(content["shape"])
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"a space of shape {shape}")
    low, high = (_bounds(content[name], dtype).reshape(shape) for name in ("low", "high"))
    return gym.spaces.Box(low, high, shape, dtype.type)


def _bounds(values: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    convert = float if dtype.kind == "f" else int
    return np.array([convert(value) for value in values], dtype)
