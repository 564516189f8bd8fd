"""Reading RoboMimic's HDF5: what a table holds, and what is refused."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

h5py = pytest.importorskip("h5py")

from rllib_fmq.data.formats.robomimic_hdf5 import (  # noqa: E402
    filter_keys,
    is_robomimic,
    load_robomimic,
    read_env_args,
)
from rllib_fmq.data.formats.robomimic_writer import write_robomimic  # noqa: E402
from rllib_fmq.tasks.catalog import find_task  # noqa: E402
from tests.data.formats.robomimic_files import (  # noqa: E402
    ENV_ARGS,
    OBS_DIM,
    joined,
    make_demo,
    make_demos,
)

CAN = find_task("can")
LENGTHS = [5, 4, 3]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three demonstrations of 5, 4 and 3 steps; demo_1 fails."""
    masks = {"train": ["demo_0", "demo_2"], "valid": ["demo_1"], "none": []}
    return write_robomimic(tmp_path / "can.hdf5", make_demos(LENGTHS), ENV_ARGS, masks)


def test_table(file: Path) -> None:
    table = load_robomimic(file, CAN)
    demos = make_demos(LENGTHS)
    np.testing.assert_array_equal(table.obs, np.concatenate([joined(demo) for demo in demos]))
    np.testing.assert_array_equal(
        table.actions, np.concatenate([demo.actions for demo in demos]).astype(np.float32)
    )
    np.testing.assert_array_equal(
        table.final_obs, np.stack([joined(demo, "next_obs")[-1] for demo in demos])
    )
    ends = np.array([0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1], bool)
    success = np.array([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1], bool)
    np.testing.assert_array_equal(table.episode_end, ends)
    np.testing.assert_array_equal(table.terminated, success)
    np.testing.assert_array_equal(table.rewards, np.where(success, 0.0, -1.0))
    assert str(file) in table.source


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=13),
    shift=st.sampled_from([-1.0, 0.0, 2.5]),
)
def test_any_lengths_come_back(tmp_path: Path, lengths: list[int], shift: float) -> None:
    demos = make_demos(lengths)
    path = write_robomimic(tmp_path / "x.hdf5", demos, ENV_ARGS)
    table = load_robomimic(path, reward_shift=shift)
    assert table.num_steps == sum(lengths)
    np.testing.assert_array_equal(np.flatnonzero(table.episode_end), np.cumsum(lengths) - 1)
    np.testing.assert_array_equal(table.obs, np.concatenate([joined(demo) for demo in demos]))
    rewards = np.concatenate([demo.rewards for demo in demos])
    np.testing.assert_array_equal(table.rewards, (rewards + shift).astype(np.float32))
    np.testing.assert_array_equal(table.terminated, rewards > 0)


def test_demonstrations_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = write_robomimic(
        tmp_path / "x.hdf5",
        (make_demo(number, 2) for number in range(12)),
        ENV_ARGS,
        {"some": ["demo_10", "demo_2"]},
    )
    assert list(load_robomimic(path).obs[::2, 0].round(1)) == list(range(12))
    assert list(load_robomimic(path, filter_key="some").obs[::2, 0].round(1)) == [2, 10]


def test_filter_keys(file: Path) -> None:
    assert filter_keys(file) == {"none": 0, "train": 2, "valid": 1}
    train = load_robomimic(file, filter_key="train")
    assert (train.num_steps, train.num_episodes) == (8, 2)
    assert "'train'" in train.source
    assert load_robomimic(file, filter_key="valid").num_steps == 4
    with pytest.raises(ValueError, match=r"no filter key 'test'; it has 'none', 'train', 'valid'"):
        load_robomimic(file, filter_key="test")
    with pytest.raises(ValueError, match="mask/none holds no demonstrations"):
        load_robomimic(file, filter_key="none")


def test_chosen_observations(file: Path) -> None:
    table = load_robomimic(file, obs_keys=["object", "robot0_eef_pos"])
    full = load_robomimic(file)
    np.testing.assert_array_equal(table.obs, full.obs[:, [*range(9, 23), 0, 1, 2]])
    with pytest.raises(ValueError, match=r"demo_0/obs lacks 'sight'; it has object, robot0_eef"):
        load_robomimic(file, obs_keys=["sight"])
    with pytest.raises(ValueError, match="different names"):
        load_robomimic(file, obs_keys=["object", "object"])


def test_two_robots(tmp_path: Path) -> None:
    env_args = {**ENV_ARGS, "env_kwargs": {"robots": ["Panda", "Panda"]}}
    path = write_robomimic(tmp_path / "x.hdf5", make_demos([3]), env_args)
    with pytest.raises(ValueError, match="lacks 'robot1_eef_pos'"):
        load_robomimic(path)


def test_without_next_obs(file: Path) -> None:
    with h5py.File(file, "a") as h5:
        for number in range(3):
            del h5[f"data/demo_{number}/next_obs"]
    table = load_robomimic(file)
    # demo_1 fails: its last row has no successor. Nothing is bootstrapped past the others' last.
    np.testing.assert_array_equal(np.flatnonzero(table.episode_end), [4, 7, 10])
    np.testing.assert_array_equal(np.flatnonzero(table.terminated), [4, 10])
    np.testing.assert_array_equal(table.final_obs[1], joined(make_demos(LENGTHS)[1])[-1])


def test_must_be_of_the_task(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'PickPlaceCan', but the task 'square-mh' is 'NutAss"):
        load_robomimic(file, find_task("square"))
    with h5py.File(file, "a") as h5:
        for number in range(3):
            for group in ("obs", "next_obs"):
                demo = h5[f"data/demo_{number}/{group}"]
                array = demo["object"][:, :10]
                del demo["object"]
                demo["object"] = array
    assert load_robomimic(file).obs_dim == OBS_DIM - 4
    with pytest.raises(ValueError, match=r"have 19 numbers, those of the task 'can-mh' 23"):
        load_robomimic(file, CAN)


def test_recognised(file: Path, tmp_path: Path) -> None:
    assert is_robomimic(file)
    assert read_env_args(file) == ENV_ARGS
    other = tmp_path / "other.hdf5"
    with h5py.File(other, "w") as h5:
        h5["observations"] = np.zeros(3)
    text = tmp_path / "text.hdf5"
    text.write_text("hello")
    for path in (other, text, tmp_path / "missing.hdf5", tmp_path):
        assert not is_robomimic(path)
    with pytest.raises(FileNotFoundError, match=r"missing\.hdf5"):
        load_robomimic(tmp_path / "missing.hdf5")
    with pytest.raises(ValueError, match=r"the file lacks 'data'; it has observations"):
        load_robomimic(other)


def test_one_demonstration_at_a_time(tmp_path: Path) -> None:
    path = write_robomimic(
        tmp_path / "x.hdf5", (make_demo(number, 1000) for number in range(20)), ENV_ARGS
    )
    tracemalloc.start()
    table = load_robomimic(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = sum(column.nbytes for column in table.columns().values())
    assert peak < 1.35 * size


def _replace(h5: h5py.File, key: str, value: object) -> None:
    del h5[key]
    h5[key] = value


def _set_value(h5: h5py.File, key: str, index: object, value: float) -> None:
    array = h5[key][()]
    array[index] = value
    _replace(h5, key, array)


def _external(h5: h5py.File, key: str) -> None:
    del h5[key]
    h5[key] = h5py.ExternalLink("elsewhere.hdf5", "/data")


def _add_mask(h5: h5py.File, names: list[str]) -> None:
    _replace(h5, "mask/train", np.asarray(names, np.bytes_))


DAMAGE: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "no actions": (lambda h: h.pop("data/demo_1/actions"), r"demo_1 lacks 'actions'; it has dones"),
    "no rewards": (lambda h: h.pop("data/demo_2/rewards"), r"demo_2 lacks 'rewards'"),
    "no obs": (lambda h: h.pop("data/demo_1/obs"), r"demo_1 lacks 'obs'"),
    "no key": (lambda h: h.pop("data/demo_1/obs/object"), r"demo_1/obs lacks 'object'"),
    "no key after": (
        lambda h: h.pop("data/demo_2/next_obs/object"),
        r"demo_2/next_obs lacks 'object'",
    ),
    "group as array": (
        lambda h: (h.pop("data/demo_0/actions"), h.create_group("data/demo_0/actions")),
        r"demo_0/actions is no array",
    ),
    "array as group": (lambda h: _replace(h, "data/demo_1", 3.0), r"demo_1 is no group"),
    "scalar": (lambda h: _replace(h, "data/demo_1/actions", 3.0), r"demo_1/actions is no array"),
    "text": (
        lambda h: _replace(h, "data/demo_1/rewards", np.array([b"0"] * 4)),
        r"demo_1/rewards' holds",
    ),
    "objects": (
        lambda h: _replace(h, "data/demo_1/rewards", np.array(["0"] * 4, object)),
        r"demo_1/rewards' holds",
    ),
    "short": (
        lambda h: _replace(h, "data/demo_1/obs/object", np.zeros((3, 14))),
        r"demo_1/obs/object must be a 2-dimensional array of 4 rows.* has shape \(3, 14\)",
    ),
    "deep": (
        lambda h: _replace(h, "data/demo_1/obs/object", np.zeros((4, 14, 1))),
        r"demo_1/obs/object must be a 2-dimensional array",
    ),
    "empty": (
        lambda h: _replace(h, "data/demo_1/obs/object", np.zeros((4, 0))),
        r"demo_1/obs/object must be a 2-dimensional array",
    ),
    "wide": (
        lambda h: _replace(h, "data/demo_1/actions", np.zeros((4, 8))),
        r"the actions of demo_1 have 8 numbers, those of demo_0 7",
    ),
    "wide obs": (
        lambda h: (
            _replace(h, "data/demo_1/obs/object", np.zeros((4, 15))),
            _replace(h, "data/demo_1/next_obs/object", np.zeros((4, 15))),
        ),
        r"the obs of demo_1 have 24 numbers, those of demo_0 23",
    ),
    "wide next": (
        lambda h: _replace(h, "data/demo_1/next_obs/object", np.zeros((4, 15))),
        r"demo_1/next_obs has 24 numbers a row, obs 23",
    ),
    "rewards in columns": (
        lambda h: _replace(h, "data/demo_1/rewards", np.zeros((4, 1))),
        r"demo_1/rewards must be a 1-dimensional array of 4 rows",
    ),
    "nan": (
        lambda h: _set_value(h, "data/demo_1/obs/object", (2, 5), np.nan),
        r"demo_1/obs/object is nan at row 2, entry 5",
    ),
    "inf": (
        lambda h: _set_value(h, "data/demo_2/actions", (1, 0), np.inf),
        r"demo_2/actions is inf at row 1, entry 0",
    ),
    "too large for float32": (
        lambda h: _replace(h, "data/demo_1/obs/object", np.full((4, 14), 1e300)),
        r"demo_1/obs/object is 1e\+300 at row 0",
    ),
    "nan after": (
        lambda h: _set_value(h, "data/demo_1/next_obs/object", (3, 0), np.nan),
        r"demo_1/next_obs/object is nan at row 3",
    ),
    "nan reward": (
        lambda h: _set_value(h, "data/demo_1/rewards", 3, np.nan),
        r"demo_1/rewards is nan at row 3",
    ),
    "action out of bounds": (
        lambda h: _set_value(h, "data/demo_1/actions", (2, 4), -1.5),
        r"demo_1/actions is -1.5 at row 2, entry 4: actions must lie in \[-1, 1\]",
    ),
    "shaped rewards": (
        lambda h: _set_value(h, "data/demo_1/rewards", 1, 0.3),
        r"demo_1/rewards is 0.3 at row 1: rewards must be 1 on success, else 0",
    ),
    "no steps": (
        lambda h: _replace(h, "data/demo_1/actions", np.zeros((0, 7))),
        r"demo_1 has no steps",
    ),
    "wrong count": (
        lambda h: h["data/demo_1"].attrs.modify("num_samples", 9),
        r"demo_1 says it has 9 steps, but has 4 actions",
    ),
    "no demonstrations": (
        lambda h: [h.pop(f"data/demo_{i}") for i in range(3)],
        r"it holds no demonstrations",
    ),
    "other name": (lambda h: h.create_group("data/extra"), r"it names 'extra'"),
    "no env_args": (lambda h: h["data"].attrs.pop("env_args"), r"no attribute 'env_args'"),
    "env_args no JSON": (
        lambda h: h["data"].attrs.modify("env_args", "{"),
        r"its attribute env_args is not JSON",
    ),
    "env_args a number": (
        lambda h: h["data"].attrs.modify("env_args", "3"),
        r"env_args must be a dict with 'env_name'",
    ),
    "other simulator": (
        lambda h: h["data"].attrs.modify("env_args", json.dumps({**ENV_ARGS, "type": 2})),
        r"env_args have type 2",
    ),
    "mask of a missing demo": (lambda h: _add_mask(h, ["demo_7"]), r"mask/train names 'demo_7'"),
    "mask names twice": (
        lambda h: _add_mask(h, ["demo_1", "demo_1"]),
        r"mask/train names 'demo_1' twice",
    ),
    "mask of numbers": (
        lambda h: _replace(h, "mask/train", np.arange(2)),
        r"mask/train holds int64, not names",
    ),
    "mask as group": (
        lambda h: (h.pop("mask/train"), h.create_group("mask/train")),
        r"mask/train is no list of names",
    ),
    "link of data": (lambda h: _external(h, "data"), r"data is a link to another file"),
    "link of demo": (lambda h: _external(h, "data/demo_1"), r"demo_1 is a link to another file"),
    "link of obs": (lambda h: _external(h, "data/demo_1/obs"), r"demo_1/obs is a link to another"),
    "link of array": (
        lambda h: _external(h, "data/demo_1/obs/object"),
        r"demo_1/obs/object' is a link to another file, 'elsewhere.hdf5'",
    ),
    "link of mask": (lambda h: _external(h, "mask/train"), r"mask/train is a link to another file"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_is_told(file: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    with h5py.File(file, "a") as h5:
        damage(h5)
    key = "train" if "mask" in name else None
    with pytest.raises(ValueError, match=message) as error:
        load_robomimic(file, filter_key=key)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_soft_links_within_the_file_are_followed(file: Path) -> None:
    expected = load_robomimic(file)
    with h5py.File(file, "a") as h5:
        h5.move("data/demo_1/obs", "elsewhere")
        h5["data/demo_1/obs"] = h5py.SoftLink("/elsewhere")
    assert load_robomimic(file).fingerprint == expected.fingerprint
    with h5py.File(file, "a") as h5:
        h5.move("elsewhere", "nowhere")
    with pytest.raises(ValueError, match=r"demo_1/obs leads nowhere"):
        load_robomimic(file)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.99])
def test_truncated(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"can\.hdf5"):
        load_robomimic(file)


def test_flipped_bits_are_noticed_or_harmless(file: Path) -> None:
    content = file.read_bytes()
    expected = load_robomimic(file)
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, len(content), 40):
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        try:
            table = load_robomimic(file)
        except ValueError as error:
            refused += 1
            assert str(file) in str(error)
        else:
            assert table.fingerprint == expected.fingerprint
    assert refused > 5
