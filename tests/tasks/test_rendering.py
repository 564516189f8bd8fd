"""Frames without a display."""

from __future__ import annotations

import numpy as np
import pytest

from rllib_fmq.tasks import find_gl_backend, render_env
from rllib_fmq.tasks import rendering as rendering_module

pytest.importorskip("ogbench")


@pytest.mark.parametrize(
    "name", ["cube-single-play-singletask-task2-v0", "pointmaze-medium-singletask-task1-v0"]
)
def test_renders_frames(name: str) -> None:
    if find_gl_backend() is None:
        pytest.skip("no OpenGL works on this machine")
    env = render_env(name, width=64, height=48)
    env.reset(seed=0)
    assert env.render_mode == "rgb_array"
    before = np.asarray(env.render())
    assert before.shape == (48, 64, 3)
    assert before.dtype == np.uint8
    assert before.std() > 0
    for _ in range(5):
        env.step(np.ones(env.action_space.shape or (), np.float32))
    assert not np.array_equal(before, np.asarray(env.render()))
    env.close()
    env.reset(seed=1)
    assert np.asarray(env.render()).shape == (48, 64, 3)
    env.close()


def test_gymnasium_environments_render_too() -> None:
    pytest.importorskip("imageio")
    if find_gl_backend() is None:
        pytest.skip("no OpenGL works on this machine")
    env = render_env("InvertedPendulum-v5")
    env.reset(seed=0)
    assert np.asarray(env.render()).ndim == 3
    env.close()


def test_backends_are_probed_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def probe(backend: str) -> bool:
        tried.append(backend)
        return backend == "osmesa"

    monkeypatch.setattr(rendering_module, "_renders", probe)
    monkeypatch.setattr(rendering_module.sys, "platform", "linux")
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.delenv("DISPLAY", raising=False)
    assert find_gl_backend.__wrapped__() == "osmesa"
    assert tried == ["glfw", "egl", "osmesa"]


def test_nothing_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering_module, "find_gl_backend", lambda: None)
    with pytest.raises(RuntimeError, match="cannot render"):
        render_env("cube-single-play-singletask-task2-v0")
