"""Pictures of robosuite's environments, without a display."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("robosuite")

from rllib_fmq.tasks import find_gl_backend
from rllib_fmq.tasks.robomimic import RobomimicEnv, default_env_args


@pytest.mark.slow
@pytest.mark.parametrize("name", ["can", "lift"])  # keeps its model; loads it at each reset
def test_pictures(name: str) -> None:
    if find_gl_backend() is None:
        pytest.skip("no OpenGL works on this machine")
    env = RobomimicEnv(default_env_args(name), render_mode="rgb_array", width=80, height=60)
    env.reset(seed=0)
    first = env.render()
    assert first is not None
    assert (first.shape, first.dtype) == ((60, 80, 3), np.uint8)
    assert first.std() > 10
    for _ in range(5):
        env.step(np.ones(7))
    moved = env.render()
    assert not np.array_equal(first, moved)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), first)
    env.close()


@pytest.mark.slow
def test_right_way_up() -> None:
    """From the front the arm stands above the table: raising it changes the upper half."""
    if find_gl_backend() is None:
        pytest.skip("no OpenGL works on this machine")
    env = RobomimicEnv(
        default_env_args("can"), render_mode="rgb_array", width=80, height=80, camera="frontview"
    )
    env.reset(seed=0)
    before = np.asarray(env.render(), int)
    for _ in range(15):
        env.step(np.array([0, 0, 1, 0, 0, 0, 0]))
    changed = np.abs(np.asarray(env.render(), int) - before).sum(axis=(1, 2))
    rows = np.arange(80)
    assert (rows * changed).sum() / changed.sum() < 40
    env.close()


def test_without_render_mode_and_with_a_wrong_camera() -> None:
    env = RobomimicEnv(default_env_args("can"))
    assert env.render() is None
    env.close()
    with pytest.raises(ValueError, match=r"no camera 'above'; there are frontview"):
        RobomimicEnv(default_env_args("can"), render_mode="rgb_array", camera="above")
    with pytest.raises(ValueError, match="width and height"):
        RobomimicEnv(default_env_args("can"), render_mode="rgb_array", width=0)
