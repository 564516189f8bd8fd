"""D4RL's HDF5, as others write it and as we do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_fmq.data import load_dataset
from rllib_fmq.data.formats.arrays import to_arrays
from rllib_fmq.data.formats.d4rl_hdf5 import write_d4rl
from tests.data.formats.recordings import make_table

h5py = pytest.importorskip("h5py")


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    inside=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], inside: bool, seed: int
) -> None:
    path = tmp_path_factory.mktemp("d4rl") / "own.hdf5"
    table = make_table(lengths, seed=seed, inside=inside)
    assert load_dataset(write_d4rl(path, table), "E").fingerprint == table.fingerprint
    assert [child.name for child in path.parent.iterdir()] == ["own.hdf5"]


def test_written_files_are_d4rls(tmp_path: Path) -> None:
    table = make_table([6, 3, 4])
    with h5py.File(write_d4rl(tmp_path / "own.h5", table)) as file:
        np.testing.assert_array_equal(file["observations"], table.obs)
        assert file["rewards"].dtype == np.float32
        assert np.flatnonzero(file["terminals"]).tolist() == [5, 12]
        assert np.flatnonzero(file["timeouts"]).tolist() == [8]
        assert "episode_end" not in file


def write_foreign(path: Path, **changes: object) -> Path:
    """Ten rows in the way of D4RL's own files: no successors, infos beside."""
    with h5py.File(path, "w") as file:
        arrays = {
            "observations": np.arange(20, dtype=np.float64).reshape(10, 2),
            "actions": np.zeros((10, 1), np.float32),
            "rewards": np.ones((10,), np.float32),
            "terminals": np.arange(10) == 3,
            "timeouts": np.arange(10) == 6,
            "infos/qpos": np.zeros((10, 4)),
            "metadata/algorithm": b"scripted",
            **changes,
        }
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
    return path


def test_without_next_observations(tmp_path: Path) -> None:
    table = load_dataset(write_foreign(tmp_path / "theirs.hdf5"), "E")
    # Rows 6 (timed out) and 9 (the file ends) have no successor; row 3 is terminated and stays.
    assert table.obs[:, 0].tolist() == [0, 2, 4, 6, 8, 10, 14, 16]
    assert np.flatnonzero(table.episode_end).tolist() == [3, 5, 7]
    assert np.flatnonzero(table.terminated).tolist() == [3]
    assert table.final_obs[:, 0].tolist() == [6, 12, 18]


def test_without_timeouts(tmp_path: Path) -> None:
    table = load_dataset(write_foreign(tmp_path / "theirs.hdf5", timeouts=None), "E")
    assert np.flatnonzero(table.episode_end).tolist() == [3, 8]


def test_rewards_may_be_integers(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "theirs.hdf5", rewards=np.arange(10))
    assert load_dataset(path, "E").rewards.tolist() == [0, 1, 2, 3, 4, 5, 7, 8]


def test_other_files_are_not_read(tmp_path: Path) -> None:
    write_foreign(tmp_path / "other.hdf5")
    path = write_foreign(
        tmp_path / "linked.hdf5", actions=h5py.ExternalLink("other.hdf5", "actions")
    )
    with pytest.raises(ValueError, match=r"linked\.hdf5.*'actions' is a link to another file"):
        load_dataset(path, "E")


def test_missing_parts_are_not_read_as_zeros(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "sparse.hdf5", rewards=None)
    with h5py.File(path, "r+") as file:
        file.create_dataset("rewards", (10,), np.float32, chunks=(5,))[:5] = 1.0
    with pytest.raises(ValueError, match=r"'rewards' of shape \(10,\) should take 2 blocks"):
        load_dataset(path, "E")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": np.zeros((10, 1), np.int64)}, "'actions' holds int64, expected floating"),
        ({"rewards": np.zeros(9, np.float32)}, r"rewards has shape \(9,\)"),
        ({"rewards": np.where(np.arange(10) == 8, np.nan, 0)}, r"rewards is nan at row 8 \("),
        ({"terminals": np.arange(10)}, "terminals is 2 at row 2"),
        ({"observations": np.zeros((10, 2), ">f4")}, "no usual type"),
        ({"actions": np.array([b"x"] * 10)}, r"'actions' holds \|S1, not numbers"),
    ],
)
def test_bad_files(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    path = write_foreign(tmp_path / "bad.hdf5", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(path, "E")
    assert str(path) in str(caught.value)
    # What a sound file holds is said without a guess at damage.
    assert ("damaged" in str(caught.value)) == ("usual" in message)


def test_nothing_is_left_of_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_d4rl(tmp_path / "own.hdf5", make_table([3]))
    before = path.read_bytes()

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(h5py.File, "create_dataset", fail)
    with pytest.raises(OSError, match="No space"):
        write_d4rl(path, make_table([4]))
    assert [child.name for child in tmp_path.iterdir()] == ["own.hdf5"]
    assert path.read_bytes() == before


def test_needs_its_suffix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.hdf5 or \.h5"):
        write_d4rl(tmp_path / "own.npz", make_table([3]))


def test_to_arrays_and_back_is_what_is_written(tmp_path: Path) -> None:
    table = make_table([4, 4], inside=True)
    with h5py.File(write_d4rl(tmp_path / "own.hdf5", table)) as file:
        for name, array in to_arrays(table).items():
            theirs = {"terminated": "terminals", "truncated": "timeouts"}.get(name, name)
            np.testing.assert_array_equal(file[theirs], array)
