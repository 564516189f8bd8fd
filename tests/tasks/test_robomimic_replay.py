"""Stored states and actions give the stored observations again."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from rllib_fmq.data.generation.demonstrate import generate_demonstrations
from rllib_fmq.tasks.robomimic import RobomimicEnv, low_dim_keys, read_env_args

pytest.importorskip("robosuite")
pytestmark = pytest.mark.slow


def stored(group: h5py.Group, which: str) -> np.ndarray:
    return np.concatenate([group[which][key][()] for key in low_dim_keys()], axis=1)


@pytest.mark.parametrize(("name", "demos"), [("can", 12), ("square", 9)])
def test_every_demonstration_begins_as_recorded(shared_data: Path, name: str, demos: int) -> None:
    """Ten steps within 1e-6; recorded on another machine, so not to the last bit."""
    path = shared_data / "robomimic" / f"{name}_scripted.hdf5"
    env = RobomimicEnv(read_env_args(path))
    with h5py.File(path, "r") as h5:
        for demo in [f"demo_{k}" for k in range(demos)]:
            group = h5["data"][demo]
            first, _ = env.reset(options={"state": group["states"][0]})
            np.testing.assert_array_equal(first, stored(group, "obs")[0])
            replayed = [env.step(action)[0] for action in group["actions"][:10]]
            expected = stored(group, "next_obs")[:10]
            np.testing.assert_allclose(replayed, expected, rtol=0, atol=1e-6, err_msg=demo)
    env.close()


def test_what_is_recorded_here_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    """A whole demonstration, grasp and drop included, in another environment."""
    path = generate_demonstrations(
        *("can", tmp_path / "can.hdf5"),
        episodes=1,
        seed=0,
        tiers={"better": 1.0},
        val_fraction=0.0,
        num_workers=0,
        progress=False,
    )
    env = RobomimicEnv(read_env_args(path))
    with h5py.File(path, "r") as h5:
        group = h5["data/demo_0"]
        first, _ = env.reset(options={"state": group["states"][0]})
        np.testing.assert_array_equal(first, np.float32(stored(group, "obs")[0]))
        steps = [env.step(action) for action in group["actions"]]
        replayed = np.array([observation for observation, *_ in steps])
        np.testing.assert_array_equal(replayed, np.float32(stored(group, "next_obs")))
        assert steps[-1][2] and steps[-1][-1] == {"success": True}
    env.close()
