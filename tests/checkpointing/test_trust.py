"""Environments that a checkpoint names as code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
from ray.tune.registry import ENV_CREATOR, _global_registry, register_env

from rllib_fmq.checkpointing.policy_file import PolicyRecord
from rllib_fmq.checkpointing.trust import TrustNeededError, check_env_name

NAME = "rllib_fmq_tests:known"
BOX = gym.spaces.Box(-1, 1, (2,))


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """The name is registered in this process."""
    register_env(NAME, lambda config: gym.make("Pendulum-v1"))
    yield
    _global_registry.unregister(ENV_CREATOR, NAME)


def record(env: str, **env_config: Any) -> PolicyRecord:
    return PolicyRecord("FMQ", BOX, BOX, {}, 1.0, True, 0.99, env, env_config)


def test_a_registered_name_excuses_the_name_only() -> None:
    check_env_name(record(NAME, max_episode_steps=3))
    with pytest.raises(TrustNeededError, match=r"names the success_fn 'os:system'"):
        check_env_name(record(NAME, success_fn="os:system"))


def test_other_names_are_not_excused() -> None:
    check_env_name(record("Pendulum-v1"))
    with pytest.raises(TrustNeededError, match="names the environment 'os:system'"):
        check_env_name(record("os:system"))
