"""What counts as a fault of an environment: each value that it gives is checked."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rllib_fmq.rollout.checked_env import CheckedEnv
from rllib_fmq.rollout.faults import (
    EnvFault,
    check_observation,
    check_reset,
    check_reward,
    check_step,
)

from .faulty import Faulty


def test_faults_travel_between_processes() -> None:
    fault = pickle.loads(pickle.dumps(EnvFault("timeout", "no answer")))
    assert (fault.kind, fault.message) == ("timeout", "no answer")
    assert str(fault) == "the environment failed (timeout): no answer"


class Unconvertible:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise OSError("the camera\nis gone")

    def __repr__(self) -> str:
        raise OSError("the camera is gone")


@pytest.mark.parametrize(
    ("place", "value", "kind"),
    [
        (0, Unconvertible(), "bad_observation"),
        (0, torch.zeros(3, requires_grad=True), "bad_observation"),
        (1, Unconvertible(), "step_error"),  # it cannot even be shown
        (1, torch.zeros(1, requires_grad=True), "bad_reward"),
        (2, np.array([True, False]), "step_error"),
        (3, np.array([True, False]), "step_error"),
    ],
)
def test_values_that_no_check_survives_are_faults(place: int, value: Any, kind: str) -> None:
    outcome = [np.zeros(3, np.float32), 0.0, False, False, {}]
    outcome[place] = value

    class Odd(Faulty):
        def step(self, action: Any) -> Any:
            return tuple(outcome)

        def reset(self, **_: Any) -> Any:
            return outcome[0], {}

    env = CheckedEnv(Odd)
    with pytest.raises(EnvFault) as fault:
        env.step(None)
    assert fault.value.kind == kind
    assert "\n" not in str(fault.value)
    if place == 0:
        with pytest.raises(EnvFault, match=kind):
            env.reset()


@pytest.mark.parametrize(
    ("obs", "kind"),
    [
        (np.full(2, 1e39), "nonfinite_observation"),  # infinite in float32
        (np.array([np.inf, 0.0]), "nonfinite_observation"),
        (np.array([0.0, np.nan]), "nonfinite_observation"),
        (np.zeros((2, 1)), "bad_observation"),
        (None, "bad_observation"),
        (np.zeros(2, np.complex64), "bad_observation"),
    ],
)
def test_observations_are_checked(obs: Any, kind: str) -> None:
    space = gym.spaces.Box(-1.0, 1.0, (2,), np.float64)
    nested = gym.spaces.Dict(a=space)
    unbounded = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    several = gym.spaces.Tuple([unbounded, gym.spaces.Discrete(2)])
    deep = gym.spaces.Dict(b=gym.spaces.Tuple([nested]))
    np.testing.assert_array_equal(check_observation(space, [0, 5]), [0.0, 5.0])
    first, second = check_observation(several, ([0, 5], 1))
    np.testing.assert_array_equal(first, [0.0, 5.0])
    assert second == 1
    for where, given in (
        (space, obs),
        (nested, {"a": obs}),
        (several, (obs, 1)),
        (deep, {"b": ({"a": obs},)}),
    ):
        with pytest.raises(EnvFault) as fault:
            check_observation(where, given)
        assert fault.value.kind == kind
    with pytest.raises(EnvFault, match=r"expected the keys \['a'\]"):
        check_observation(nested, {"b": obs})
    for short in (([0, 5],), np.zeros(2), None):
        with pytest.raises(EnvFault, match="expected a tuple of 2 parts") as fault:
            check_observation(several, short)
        assert fault.value.kind == "bad_observation"


def test_infos_are_dicts() -> None:
    space = gym.spaces.Box(-1.0, 1.0, (2,), np.float64)
    assert check_reset(space, ([0, 0], None))[1] == {}
    with pytest.raises(EnvFault, match="info is a list") as fault:
        check_reset(space, ([0, 0], [1]))
    assert fault.value.kind == "reset_error"
    with pytest.raises(EnvFault, match="info is a int") as fault:
        check_step(space, ([0, 0], 0.0, False, False, 3))
    assert fault.value.kind == "step_error"


def test_rewards_of_one_number_pass() -> None:
    assert [check_reward(r) for r in (1, np.float32(0.5), np.array([2.0]), True)] == [1, 0.5, 2, 1]
    with pytest.raises(EnvFault, match="shape"):
        check_reward([1.0, 2.0])


@pytest.mark.parametrize(
    ("kind", "given", "fault"),
    [
        (np.float16, np.array([0.0, 1e5], np.float32), "nonfinite_observation"),
        (np.int8, np.array([0, 300]), "bad_observation"),
        (np.uint8, np.array([256, 3], np.uint16), "bad_observation"),
    ],
)
def test_what_the_spaces_type_does_not_hold_is_a_fault(kind: Any, given: Any, fault: str) -> None:
    limits = np.iinfo(kind) if np.dtype(kind).kind in "iu" else np.finfo(kind)
    space = gym.spaces.Box(limits.min, limits.max, (2,), kind)
    with pytest.raises(EnvFault) as raised:
        check_observation(space, given)
    assert raised.value.kind == fault
    held = np.array([0, 5], given.dtype)
    np.testing.assert_array_equal(check_observation(space, held), [0, 5])


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_an_environment_that_exits_has_failed(timeout: float | None) -> None:
    class Exits(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        action_space = observation_space

        def reset(self, **_: Any) -> Any:
            return np.zeros(2, np.float32), {}

        def step(self, action: Any) -> Any:
            raise SystemExit(3)

    env = CheckedEnv(Exits, timeout_s=timeout)
    env.reset(seed=0)
    with pytest.raises(EnvFault) as raised:
        env.step(np.zeros(2, np.float32))
    assert raised.value.kind == "step_error"
    env.close()
