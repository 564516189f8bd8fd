"""Writing RoboMimic's HDF5: the layout of recorded files, all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from rllib_fmq.data.formats.robomimic_hdf5 import load_robomimic, read_env_args  # noqa: E402
from rllib_fmq.data.formats.robomimic_writer import Demo, write_robomimic  # noqa: E402
from tests.data.formats.robomimic_files import ENV_ARGS, make_demo, make_demos  # noqa: E402


def read_demo(group: Any) -> Demo:
    """A demonstration of a file, as it was given to the writer."""
    arrays = {name: group[name][()] for name in ("actions", "rewards", "dones", "states")}
    attrs = {key: value for key, value in group.attrs.items() if key != "num_samples"}
    obs, next_obs = (
        {key: array[()] for key, array in group[name].items()} for name in ("obs", "next_obs")
    )
    return Demo(obs=obs, next_obs=next_obs, attrs=attrs, **arrays)


def layout(item: Any) -> dict[str, Any]:
    """Names, types and shapes of everything in a file, and its attributes."""
    found: dict[str, Any] = {}

    def visit(name: str, member: Any) -> None:
        found[name] = (
            (member.shape, member.dtype) if isinstance(member, h5py.Dataset) else "group",
            dict(member.attrs),
        )

    item.visititems(visit)
    return found


def test_a_recorded_file_is_written_again_the_same(shared_data: Path, tmp_path: Path) -> None:
    recorded = shared_data / "robomimic" / "square_scripted.hdf5"
    with h5py.File(recorded, "r") as h5:
        names = sorted(h5["data"], key=lambda name: int(name[5:]))
        masks = {key: [name.decode() for name in mask[()]] for key, mask in h5["mask"].items()}
        demos = (read_demo(h5["data"][name]) for name in names)
        written = write_robomimic(tmp_path / "again.hdf5", demos, read_env_args(recorded), masks)
        with h5py.File(written, "r") as again:
            assert layout(again) == layout(h5)
            assert dict(again.attrs) == dict(h5.attrs)
            np.testing.assert_array_equal(
                again["data/demo_3/states"][()], h5["data/demo_3/states"][()]
            )
    assert load_robomimic(written).fingerprint == load_robomimic(recorded).fingerprint


def test_attributes(tmp_path: Path) -> None:
    path = write_robomimic(
        tmp_path / "x.hdf5", make_demos([3, 2]), ENV_ARGS, attrs={"generator": "here"}
    )
    with h5py.File(path, "r") as h5:
        assert h5["data"].attrs["total"] == 5
        assert h5["data"].attrs["generator"] == "here"
        assert h5["data/demo_1"].attrs["num_samples"] == 2
        assert h5["data/demo_1"].attrs["tier"] == "better"
        assert list(h5["mask"]) == []


def test_demos_are_written_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "x.hdf5"
    masks: dict[str, list[str]] = {"late": []}

    def demos() -> Iterator[Demo]:
        for number in range(3):
            assert not path.exists()
            masks["late"].append(f"demo_{number}")
            yield make_demo(number, 2)

    write_robomimic(path, demos(), ENV_ARGS, masks)
    assert load_robomimic(path, filter_key="late").num_episodes == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": np.zeros((3, 7))}, r"demo_1: rewards must be .* of 3 rows"),
        ({"actions": np.zeros(4)}, r"demo_1: actions must be a 2-dimensional array"),
        ({"rewards": np.zeros(2)}, r"demo_1: rewards must be a 1-dimensional array of 4 rows"),
        ({"states": np.full((4, 11), np.nan)}, r"demo_1: states is not finite at row 0"),
        ({"states": np.zeros((4, 9))}, r"demo_1 has other arrays than demo_0"),
        ({"obs": {}}, r"demo_1: obs and next_obs must have the same keys"),
        ({"actions": np.zeros((0, 7))}, r"demo_1 has no steps"),
    ],
)
def test_unusable_demos_leave_no_file(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    demos = [make_demo(0, 4), replace(make_demo(1, 4), **changes)]
    with pytest.raises(ValueError, match=message):
        write_robomimic(tmp_path / "x.hdf5", demos, ENV_ARGS)
    assert list(tmp_path.iterdir()) == []


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "x.hdf5"
    with pytest.raises(ValueError, match="no demonstrations"):
        write_robomimic(path, [], ENV_ARGS)
    with pytest.raises(ValueError, match="must end in"):
        write_robomimic(tmp_path / "x.npz", make_demos([2]), ENV_ARGS)
    with pytest.raises(ValueError, match=r"mask 'a' names 'demo_1', but the demos are demo_0"):
        write_robomimic(path, make_demos([2]), ENV_ARGS, {"a": ["demo_1"]})
    with pytest.raises(ValueError, match="env_args must be a dict"):
        write_robomimic(path, make_demos([2]), {"env": "Lift"})
    with pytest.raises(ValueError, match="compression_level"):
        write_robomimic(path, make_demos([2]), ENV_ARGS, compression_level=10)
    assert list(tmp_path.iterdir()) == []
