"""RoboMimic's own reader sees in our files what ours does."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from rllib_fmq.data.formats.robomimic_hdf5 import load_robomimic  # noqa: E402
from rllib_fmq.data.formats.robomimic_writer import write_robomimic  # noqa: E402
from rllib_fmq.tasks.robomimic_args import low_dim_keys  # noqa: E402
from tests.data.formats.robomimic_files import ENV_ARGS, make_demos  # noqa: E402


def sequence_dataset(path: Path, filter_key: str | None, *, swmr: bool) -> Any:
    """RoboMimic 0.3.0's dataset of single steps, which pads nothing."""
    try:
        from robomimic.utils import obs_utils
        from robomimic.utils.dataset import SequenceDataset
    except ModuleNotFoundError as error:
        pytest.fail(f"{error}; needed here: pip install --no-deps robomimic==0.3.0")
    with contextlib.redirect_stdout(None):
        obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": list(low_dim_keys())}})
        return SequenceDataset(
            hdf5_path=str(path),
            obs_keys=low_dim_keys(),
            dataset_keys=("actions", "rewards", "dones"),
            frame_stack=1,
            seq_length=1,
            hdf5_cache_mode="low_dim",
            hdf5_use_swmr=swmr,
            filter_by_attribute=filter_key,
            load_next_obs=True,
        )


def vectors(steps: list[Any], which: str) -> np.ndarray:
    """Observations of all steps, in the order of the vector."""
    return np.stack(
        [np.concatenate([step[which][key][0] for key in low_dim_keys()]) for step in steps]
    )


def compare(path: Path, filter_key: str | None, *, swmr: bool) -> None:
    """Compare both readers' arrays, number for number."""
    theirs = sequence_dataset(path, filter_key, swmr=swmr)
    ours = load_robomimic(path, filter_key=filter_key)
    assert len(theirs) == ours.num_steps
    assert theirs.n_demos == ours.num_episodes
    steps = [theirs[index] for index in range(len(theirs))]
    np.testing.assert_array_equal(vectors(steps, "obs"), ours.obs)
    np.testing.assert_array_equal(np.stack([step["actions"][0] for step in steps]), ours.actions)
    rewards = np.stack([step["rewards"][0] for step in steps])
    np.testing.assert_array_equal(rewards - 1.0, ours.rewards)
    np.testing.assert_array_equal(rewards > 0, ours.terminated)
    dones = np.stack([step["dones"][0] for step in steps])
    np.testing.assert_array_equal(dones > 0, ours.episode_end)
    following = ours.obs[np.minimum(np.arange(ours.num_steps) + 1, ours.num_steps - 1)]
    following[ours.episode_end] = ours.final_obs
    np.testing.assert_array_equal(vectors(steps, "next_obs"), following)


@pytest.mark.parametrize("filter_key", [None, "train", "valid"])
def test_written_file(tmp_path: Path, filter_key: str | None) -> None:
    names = [f"demo_{number}" for number in range(12)]
    path = write_robomimic(
        tmp_path / "x.hdf5",
        make_demos([4, 1, 7, 2, 5, 3, 6, 1, 2, 3, 4, 5]),
        ENV_ARGS,
        {"train": names[:3] + names[9:], "valid": names[3:9]},
    )
    compare(path, filter_key, swmr=True)  # its default


@pytest.mark.parametrize(
    ("name", "filter_key"),
    [
        ("can_scripted", "valid"),
        pytest.param("can_scripted", None, marks=pytest.mark.slow),
        ("square_scripted", None),
    ],
)
def test_recorded_files(shared_data: Path, name: str, filter_key: str | None) -> None:
    compare(shared_data / "robomimic" / f"{name}.hdf5", filter_key, swmr=False)
