"""policy.json: exact, plain, and read with suspicion."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from pyarrow.fs import LocalFileSystem

from rllib_fmq import FMQConfig, QCConfig
from rllib_fmq.checkpointing.policy_file import (
    POLICY_FILE,
    PolicyRecord,
    _from_json,
    _space_from_json,
    _space_to_json,
    read_policy_file,
    record_policy,
    to_json,
    write_policy_file,
)
from rllib_fmq.nn.flow_map_module import FlowMapModule

OBSERVATIONS = gym.spaces.Box(
    np.array([-np.inf, 0.1, -1e-30], np.float32), np.array([np.inf, 0.3, np.pi], np.float32)
)
ACTIONS = gym.spaces.Box(np.array([[-0.1], [0.2]]), np.array([[0.3], [1 / 3]]), dtype=np.float64)


class OwnModule(FlowMapModule):
    """A policy that only its class can rebuild."""


def own_env(config: Any) -> Any:
    raise AssertionError("only its name matters here")


def write(
    folder: Path, env: Any = "Pendulum-v1", kind: type = FlowMapModule, **env_config: Any
) -> FMQConfig:
    """The file of an algorithm that was not built."""
    config = FMQConfig().environment(env, env_config=env_config).training(actor_hidden=(7, 8))
    answer = (
        kind,
        {
            "observation_space": OBSERVATIONS,
            "action_space": ACTIONS,
            "model_config": config.model_config,
        },
    )
    algorithm = SimpleNamespace(config=config, ask_learners=lambda ask: [answer])
    write_policy_file(LocalFileSystem(), str(folder), algorithm)
    return config


def read(folder: Path) -> PolicyRecord:
    record = read_policy_file(folder)
    assert record is not None
    return record


def test_everything_comes_back_exactly(tmp_path: Path) -> None:
    nested = {"a": [1, 2.5, None, True], "b": {"c": "text"}}
    config = write(tmp_path, nested=nested, number=np.float32(0.5))
    record = read(tmp_path)
    assert record.observation_space == OBSERVATIONS and record.action_space == ACTIONS
    assert record.observation_space.dtype == np.float32
    assert record.action_space.dtype == np.float64 and record.action_space.shape == (2, 1)
    for space, original in (
        (record.observation_space, OBSERVATIONS),
        (record.action_space, ACTIONS),
    ):
        np.testing.assert_array_equal(space.low, original.low)
        np.testing.assert_array_equal(space.high, original.high)
    assert record.model_config == config.model_config
    assert (record.algorithm, record.env, record.env_missing) == ("FMQ", "Pendulum-v1", "")
    assert record.env_config == {"nested": nested, "number": 0.5}
    assert (record.lambda_sd, record.gamma) == (config.lambda_sd, config.gamma)


@pytest.mark.parametrize(
    ("algorithm", "lambda_sd", "jumps"),
    [(FMQConfig, 1, True), (FMQConfig, 0, True), (QCConfig, 0, False)],
)
def test_jumps_may_come_from_the_run_that_it_started_from(
    algorithm: Any, lambda_sd: float, jumps: bool
) -> None:
    config = algorithm().environment("Pendulum-v1").training(lambda_sd=lambda_sd)
    arguments = {"observation_space": OBSERVATIONS, "action_space": ACTIONS, "model_config": {}}
    record = record_policy(config, FlowMapModule, arguments)
    assert record.jumps_trained == jumps
    content = to_json(record)
    assert _from_json(content).jumps_trained == jumps
    del content["jumps_trained"]  # as earlier versions wrote it
    assert _from_json(content).jumps_trained == (lambda_sd > 0)


def test_it_is_json_by_the_standard(tmp_path: Path) -> None:
    write(tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads((tmp_path / POLICY_FILE).read_text(), parse_constant=refuse)


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_spaces_of_integers_are_exact(kind: type) -> None:
    limits = np.iinfo(kind)
    space = gym.spaces.Box(limits.min, limits.max, (2,), kind)
    assert _space_from_json(json.loads(json.dumps(_space_to_json(space)))) == space


@pytest.mark.parametrize(
    ("env", "env_config", "reason"),
    [
        (own_env, {}, "env is a function"),
        ("Pendulum-v1", {"render": own_env}, r"env_config\['render'\] is a function"),
        ("Pendulum-v1", {"pair": {"x": (1, 2)}}, r"env_config\['pair'\]\['x'\] is a tuple"),
        ("Pendulum-v1", {"array": np.zeros(2)}, "is a ndarray"),
        ("Pendulum-v1", {"bound": float("inf")}, "is a float"),
        ("Pendulum-v1", {"path": Path("x")}, "is a Posix"),
    ],
)
def test_what_is_no_json_is_left_out_with_the_reason(
    tmp_path: Path, env: Any, env_config: dict[str, Any], reason: str
) -> None:
    write(tmp_path, env, **env_config)
    record = read(tmp_path)
    assert record.env is None and record.env_config == {}
    assert re.search(reason, record.env_missing), record.env_missing


def test_policies_of_another_class_are_not_described(tmp_path: Path) -> None:
    assert read_policy_file(tmp_path) is None
    write(tmp_path, kind=OwnModule)
    assert "OwnModule" in json.loads((tmp_path / POLICY_FILE).read_text())["module_missing"]
    assert read_policy_file(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format_version": 2}, "has format 2, .* upgrade rllib-fmq"),
        ({"format_version": None, "algorithm": 3}, "damaged"),
        ({"env": ["os"]}, "damaged"),
        ({"env": None}, "damaged .*env is missing"),
        ({"env_config": 3}, "damaged"),
        ({"model_config": [1]}, "damaged"),
        ({"observation_space": {"shape": [2], "dtype": "O", "low": [0], "high": [1]}}, "damaged"),
        (
            {"observation_space": {"shape": [-1], "dtype": "f4", "low": [0], "high": [1]}},
            "damaged",
        ),
        (
            {"observation_space": {"shape": [10**12], "dtype": "f4", "low": [0], "high": [1]}},
            "damaged",
        ),
        ({"action_space": None}, "damaged"),
        ({"gamma": "much"}, "damaged"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    write(tmp_path)
    path = tmp_path / POLICY_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=says) as refusal:
        read_policy_file(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "3", '{"a": 1}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / POLICY_FILE).write_text(content)
    with pytest.raises(ValueError, match="damaged"):
        read_policy_file(tmp_path)
    (tmp_path / POLICY_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="damaged"):
        read_policy_file(tmp_path)


@pytest.mark.parametrize("number", ["1" + 400 * "0", 100_000 * "[" + 100_000 * "]"])
def test_numbers_that_no_file_of_ours_holds_are_damage(tmp_path: Path, number: str) -> None:
    write(tmp_path)
    path = tmp_path / POLICY_FILE
    text = path.read_text()
    path.write_text(
        re.sub(r'("low": \[\s*)[^,\]]+', lambda found: found[1] + number, text, count=1)
    )
    with pytest.raises(ValueError, match="is damaged"):
        read(tmp_path)
