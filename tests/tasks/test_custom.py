"""Environments and success functions that users name by a path."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rllib_fmq.tasks import is_task, make_env

MODULE = """
    import gymnasium
    import numpy as np


    class Reach(gymnasium.Env):
        observation_space = gymnasium.spaces.Dict(
            {"b": gymnasium.spaces.Box(-1, 1, (2,)), "a": gymnasium.spaces.Box(-1, 1, (1,))}
        )
        action_space = gymnasium.spaces.Box(-3.0, 5.0, (1,), np.float64)

        def __init__(self, start=0.0):
            self.start = start

        def _obs(self):
            return {"b": np.full(2, self.x, np.float32), "a": np.full(1, self.x, np.float32)}

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.x = self.start
            return self._obs(), {}

        def step(self, action):
            self.x = float(np.clip(self.x + 0.1 * action[0], -1, 1))
            return self._obs(), self.x, False, False, {}


    def make(**kwargs):
        return Reach(**kwargs)


    def solved(obs, reward, terminated, truncated, info):
        return obs["a"][0] > 0.9


    def nothing():
        return None


    def limited():
        return gymnasium.wrappers.TimeLimit(Reach(), 2)


    def broken():
        raise RuntimeError("no robot\\nhere")


    number = 3
    gymnasium.register("Reach-v0", entry_point=Reach, max_episode_steps=7)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_reach.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_reach"
    sys.modules.pop("my_reach", None)
    gymnasium.registry.pop("Reach-v0", None)


def test_factory_with_arguments_limit_and_success(module: str) -> None:
    name = f"{module}:make"
    assert is_task(name)
    env = make_env(name, start=0.5, max_episode_steps=3, success_fn=f"{module}:solved")
    obs, _ = env.reset(seed=0)
    assert obs["a"][0] == 0.5
    steps = [env.step(np.array([2.5])) for _ in range(3)]
    assert [info["success"] for *_, info in steps] == [False, True, True]
    assert [truncated for *_, truncated, _ in steps] == [False, False, True]


def test_a_limit_stands_in_the_place_of_the_factorys_own(module: str) -> None:
    env = make_env(f"{module}:limited", max_episode_steps=4)
    env.reset(seed=0)
    assert [env.step(np.array([0.0]))[3] for _ in range(4)] == [False, False, False, True]


def test_a_module_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken.py").write_text("raise OSError('no\\ncamera')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="importing my_broken failed: OSError: no camera"):
        make_env("my_broken:make")


def test_a_class_is_a_factory_too(module: str) -> None:
    env = make_env(f"{module}:Reach")
    assert env.reset()[0]["b"].shape == (2,)


def test_gymnasium_ids_of_a_module_still_work(module: str) -> None:
    name = f"{module}:Reach-v0"
    assert not is_task(name)
    env = make_env(name, success_fn=lambda obs, *_: obs["a"][0] >= 0)
    assert env.spec is not None and env.spec.max_episode_steps == 7
    env.reset(seed=0)
    assert env.step(np.array([0.0]))[-1] == {"success": True}


def test_limit_of_a_gymnasium_id() -> None:
    env = make_env("Pendulum-v1", max_episode_steps=2)
    env.reset(seed=0)
    assert [env.step(np.zeros(1, np.float32))[3] for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("no_such_module:make", {}, "no module 'no_such_module'.*PYTHONPATH"),
        ("my_reach:missing", {}, "my_reach has no 'missing'; it has .*make"),
        ("my_reach:number", {}, "is a int: expected a function or a class"),
        ("my_reach:nothing", {}, "returned a NoneType: expected a gymnasium.Env"),
        ("my_reach:broken", {}, "'my_reach:broken' cannot be made: RuntimeError: no robot here"),
        ("my_reach:make", {"max_episode_steps": 0}, "max_episode_steps=0: must be"),
        ("my_reach:make", {"success_fn": "my_reach:number"}, "success_fn .*expected a function"),
        ("my_reach:make", {"success_fn": "solved"}, "success_fn 'solved': expected module:name"),
    ],
)
def test_refusals(module: str, name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_env(name, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
