"""Scripted demonstrations: RoboMimic's format, successful, the same whatever the workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq.data.generation import demonstrate
from rllib_fmq.data.generation.demonstrate import (
    can_demonstrate,
    generate_demonstrations,
    generated_demonstrations,
    measure_success,
)

h5py = pytest.importorskip("h5py")
pytest.importorskip("robosuite")


def make(task: str, out: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "episodes": 3,
        "seed": 1,
        "num_workers": 0,
        "tiers": {"better": 1.0},
        "progress": False,
    }
    return generate_demonstrations(task, out, **{**settings, **changes})


def contents(path: Path) -> dict[str, Any]:
    """Every dataset and every attribute of a file, by name."""
    found: dict[str, Any] = {}

    def collect(name: str, item: Any) -> None:
        found.update({f"{name}@{key}": value for key, value in item.attrs.items()})
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(collect)
    return found


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)


@pytest.fixture(scope="module")
def lift_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good demonstrations of lift."""
    return make("lift", tmp_path_factory.mktemp("lift") / "lift.hdf5")


def check_file(path: Path, task: str) -> None:
    with h5py.File(path) as file:
        data = file["data"]
        names = sorted(data, key=lambda name: int(name.removeprefix("demo_")))
        assert names == [f"demo_{k}" for k in range(len(names))]
        assert data.attrs["total"] == sum(data[name].attrs["num_samples"] for name in names)
        assert json.loads(data.attrs["generator"])["task"] == task
        for name in names:
            demo = data[name]
            rewards, dones = demo["rewards"][:], demo["dones"][:]
            assert rewards[-1] == dones[-1] == 1.0
            assert not rewards[:-1].any() and not dones[:-1].any()
            assert np.abs(demo["actions"]).max() <= 1.0
            assert set(np.unique(demo["actions"][:, 6])) == {-1.0, 1.0}  # it opens and closes
            for key in demo["obs"]:
                np.testing.assert_array_equal(demo["obs"][key][1:], demo["next_obs"][key][:-1])
            assert np.all(np.diff(demo["states"][:, 0]) > 0)  # time
        masks = {key: {name.decode() for name in file["mask"][key]} for key in file["mask"]}
        assert masks["train"] | masks["valid"] == set(names)
        assert not masks["train"] & masks["valid"]
        tiers = {key: members for key, members in masks.items() if key not in ("train", "valid")}
        assert set().union(*tiers.values()) == set(names)
        assert sum(map(len, tiers.values())) == len(names)
        for tier, members in tiers.items():
            assert all(data[name].attrs["tier"] == tier for name in members)


def check_layout(made: Path, reference: Path) -> None:
    """Same arrays, types and attributes as a file of known origin."""
    with h5py.File(made) as ours, h5py.File(reference) as known:
        one, two = ours["data/demo_0"], known["data/demo_0"]
        assert set(one.attrs) - {"attempts"} == set(two.attrs)
        assert set(one["obs"]) == set(two["obs"])

        def compare(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                assert one[name].dtype == item.dtype, name
                if not name.endswith("obs/object") and name != "states":  # the task's
                    assert one[name].shape[1:] == item.shape[1:], name

        two.visititems(compare)


def test_lift_is_demonstrated(lift_file: Path, shared_data: Path) -> None:
    check_file(lift_file, "lift")
    check_layout(lift_file, shared_data / "robomimic" / "can_scripted.hdf5")
    with h5py.File(lift_file) as file:
        heights = file["data/demo_0/next_obs/object"][:, 2]
    assert heights[0] < 0.84 < heights[-1]


def test_an_existing_file_is_kept(lift_file: Path) -> None:
    before = lift_file.read_bytes()
    with pytest.raises(FileExistsError, match=r"lift\.hdf5 exists"):
        make("lift", lift_file, seed=5)
    assert lift_file.read_bytes() == before


@pytest.mark.slow
def test_the_same_whatever_the_workers_and_what_came_before(
    ray_session: None, tmp_path: Path, lift_file: Path
) -> None:
    make("lift", tmp_path / "other.hdf5", episodes=1, seed=2)
    assert_same(contents(make("lift", tmp_path / "again.hdf5")), contents(lift_file))
    assert_same(contents(make("lift", tmp_path / "two.hdf5", num_workers=2)), contents(lift_file))


def test_seeds_differ_and_longer_begins_with_shorter(tmp_path: Path, lift_file: Path) -> None:
    short = contents(make("lift", tmp_path / "short.hdf5", episodes=1))
    full = contents(lift_file)
    demo = {name: value for name, value in short.items() if name.startswith("data/")}
    assert_same(demo, {name: full[name] for name in demo})
    other = contents(make("lift", tmp_path / "other.hdf5", episodes=1, seed=2))
    assert not np.array_equal(other["data/demo_0/actions"][:20], full["data/demo_0/actions"][:20])
    assert not np.array_equal(full["data/demo_1/actions"][:20], full["data/demo_0/actions"][:20])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["can", "square"])
def test_can_and_square_are_demonstrated(tmp_path: Path, shared_data: Path, task: str) -> None:
    path = make(f"{task}-ph", tmp_path, episodes=2, tiers={"better": 1, "worse": 1})
    assert path == tmp_path / "robomimic" / task / "scripted" / "low_dim_v15.hdf5"
    check_file(path, task)
    check_layout(path, shared_data / "robomimic" / f"{task}_scripted.hdf5")
    with h5py.File(path) as file:
        lengths = {demo.attrs["tier"]: demo.attrs["num_samples"] for demo in file["data"].values()}
    assert lengths["better"] < lengths["worse"]


@pytest.mark.slow
def test_what_is_made_can_be_trained_on(tmp_path: Path) -> None:
    from rllib_fmq.data import load_dataset

    path = make("lift", tmp_path / "lift.hdf5")
    table = load_dataset(path, "lift", filter_key="train")
    assert table.num_episodes == 2
    assert np.asarray(table.terminated).sum() == 2


def test_failures_are_kept_on_request_and_repeated_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("robosuite")
    from rllib_fmq.data.generation import scripted_episode
    from rllib_fmq.data.generation.scripted_robosuite import POLICIES, lift

    calls = 0

    def clumsy(sim_env: Any, arm: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:  # the first attempt opens the gripper and stays away
            return iter([np.array([0, 0, 0, 0, 0, 0, -1.0])] * 5)
        return lift(sim_env, arm)

    monkeypatch.setitem(POLICIES, "lift", clumsy)
    kept = make("lift", tmp_path / "kept.hdf5", episodes=1, keep_failures=True)
    calls = 0
    repeated = make("lift", tmp_path / "repeated.hdf5", episodes=1)
    with h5py.File(kept) as file:
        assert file["data/demo_0/rewards"][:].tolist() == [0.0] * 5
        assert file["data/demo_0/dones"][:].tolist() == [0.0] * 4 + [1.0]
        assert file["data/demo_0"].attrs["attempts"] == 1
        assert sorted(file["mask"]) == ["better", "train"]
    with h5py.File(repeated) as file:
        assert file["data/demo_0/rewards"][-1] == 1.0
        assert file["data/demo_0"].attrs["attempts"] == 2

    monkeypatch.setitem(POLICIES, "lift", lambda sim_env, arm: iter([np.zeros(7)]))
    monkeypatch.setattr(scripted_episode, "_MAX_ATTEMPTS", 2)
    with pytest.raises(RuntimeError, match="2 attempts at demonstration 0 of lift"):
        make("lift", tmp_path / "never.hdf5", episodes=1)
    assert not (tmp_path / "never.hdf5").exists()


def test_success_is_measured() -> None:
    assert measure_success("lift", "better", episodes=2, seed=3) == 1.0
    with pytest.raises(ValueError, match="unknown quality tier 'best'"):
        measure_success("lift", "best", episodes=2, seed=3)


def test_tiers_are_dealt_by_their_shares() -> None:
    dealt = demonstrate._deal({"better": 0.5, "okay": 0.3, "worse": 0.2}, 100)
    assert [dealt.count(tier) for tier in ("better", "okay", "worse")] == [50, 30, 20]
    assert sorted(dealt[:10]) == ["better"] * 5 + ["okay"] * 3 + ["worse"] * 2
    assert demonstrate._deal({"better": 0.5, "okay": 0.3, "worse": 0.2}, 30) == dealt[:30]


@pytest.mark.parametrize(
    ("episodes", "fraction", "held_out"),
    [(100, 0.1, 10), (5, 0.1, 1), (1, 0.1, 0), (10, 0.0, 0), (10, 0.5, 5)],
)
def test_masks(episodes: int, fraction: float, held_out: int) -> None:
    masks = demonstrate._masks(["better"] * episodes, fraction, seed=0)
    assert len(masks.get("valid", [])) == held_out
    assert len(masks["train"]) == episodes - held_out
    assert "okay" not in masks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "transport"}, "'transport'; there is one for lift, can, square"),
        ({"task": "tool_hang-ph"}, "'tool_hang-ph'; there is one for lift, can, square"),
        ({"task": "cube-single-play-v0"}, "there is one for lift, can, square"),
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"val_fraction": 1.0}, r"val_fraction must be at least 0 and below 1, got 1\.0"),
        ({"val_fraction": float("nan")}, "val_fraction must be .* got nan"),
        ({"tiers": {"best": 1.0}}, "unknown quality tier 'best'; there are better, okay, worse"),
        ({"tiers": {"better": -1.0}}, "the share of tier 'better' must be at least 0"),
        ({"tiers": {"better": 0.0}}, "at least one tier must have a share above 0"),
        ({"out": "data.npz"}, r"ending in \.hdf5, got 'data\.npz'"),
    ],
)
def test_bad_arguments(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    settings = {"task": "lift", "out": tmp_path, **changes}
    with pytest.raises(ValueError, match=message):
        make(**settings)
    assert not list(tmp_path.iterdir())


def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLLIB_FMQ_DATA_DIR", str(tmp_path))
    expected = tmp_path / "robomimic" / "can" / "scripted" / "low_dim_v15.hdf5"
    assert demonstrate._output(None, "can") == expected


def test_what_can_be_demonstrated() -> None:
    assert generated_demonstrations() == ["lift", "can", "square"]
    for name in ("lift", "can", "square", "can-mh", "square-ph-low_dim"):
        assert can_demonstrate(name)
    for name in ("transport", "tool_hang", "can-xx", "Pendulum-v1"):
        assert not can_demonstrate(name)


def test_the_nut_is_turned_as_little_as_its_handle_allows() -> None:
    from rllib_fmq.data.generation.scripted_arm import nearest_angle
    from rllib_fmq.data.generation.scripted_robosuite import _turn_onto_peg

    quarter = np.pi / 2
    assert nearest_angle(0.1, 3.2, np.pi) == pytest.approx(0.1 + np.pi)
    for yaw in np.linspace(-np.pi, np.pi, 37):
        turn = _turn_onto_peg(yaw)
        assert (yaw + turn) % quarter == pytest.approx(0.0, abs=1e-9) or (
            yaw + turn
        ) % quarter == pytest.approx(quarter)
        assert np.cos(yaw + turn) < 0.5  # the handle does not point away from the robot
        assert abs(turn) <= (quarter if np.cos(yaw) > 0 else quarter / 2) + 1e-9
