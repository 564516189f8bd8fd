"""Minari's datasets, written by Minari."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_fmq.data import load_dataset
from rllib_fmq.data.formats.minari_dataset import find_minari
from rllib_fmq.data.formats.trajectories import flatten_rows
from tests.data.formats.recordings import make_table, write_minari

minari = pytest.importorskip("minari")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    nested=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], nested: bool, seed: int
) -> None:
    table = make_table(lengths, seed=seed, inside=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        write_minari(table, "tests/own-v0", nested=nested)
        assert load_dataset("minari:tests/own-v0", "E").fingerprint == table.fingerprint


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
def test_its_other_formats(root: Path, data_format: str) -> None:
    table = make_table([4, 2])
    write_minari(table, "tests/own-v0", data_format, nested=True)
    assert load_dataset("minari:tests/own-v0", "E").fingerprint == table.fingerprint


def test_folders_are_paths_too(root: Path) -> None:
    table = make_table([3, 5])
    write_minari(table, "tests/own-v0")
    folder = root / "tests" / "own-v0"
    for path in (folder, folder / "data", str(folder)):
        assert load_dataset(path, "E").fingerprint == table.fingerprint


def test_not_there(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`minari download D4RL/door/human-v2`"):
        load_dataset("minari:D4RL/door/human-v2", "E")
    for name in ("minari:", "minari:/etc", "minari:../x"):
        with pytest.raises(ValueError, match="no Minari dataset id"):
            find_minari(name)


def test_not_installed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_minari(make_table([3]), "tests/own-v0")
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "minari":
            raise ModuleNotFoundError("No module named 'minari'", name="minari")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rllib-fmq\[minari\]'"):
        load_dataset("minari:tests/own-v0", "E")


def test_an_environment_is_never_made_for_missing_spaces(root: Path) -> None:
    write_minari(make_table([3]), "tests/own-v0")
    metadata = root / "tests" / "own-v0" / "data" / "metadata.json"
    text = metadata.read_text().replace('"observation_space"', '"space"')
    metadata.write_text(text)
    with pytest.raises(ValueError, match="'observation_space' is None, expected str"):
        load_dataset("minari:tests/own-v0", "E")


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("key", ["episode_1", "episode_1/actions", "episode_1/observations/a"])
def test_other_files_are_not_read(root: Path, key: str, there: bool) -> None:
    h5py = pytest.importorskip("h5py")
    write_minari(make_table([3, 5]), "tests/own-v0", nested=True)
    data = root / "tests" / "own-v0" / "data" / "main_data.hdf5"
    other = root / "other.hdf5"
    if there:
        other.write_bytes(data.read_bytes())
    with h5py.File(data, "r+") as file:
        del file[key]
        file[key] = h5py.ExternalLink(str(other), key)
    with pytest.raises(ValueError, match=rf"main_data\.hdf5: '{key}' is a link to another file"):
        load_dataset("minari:tests/own-v0", "E")


def test_links_that_lead_to_other_files_are_not_followed(root: Path) -> None:
    h5py = pytest.importorskip("h5py")
    write_minari(make_table([3, 5]), "tests/own-v0")
    data = root / "tests" / "own-v0" / "data" / "main_data.hdf5"
    (root / "other.hdf5").write_bytes(data.read_bytes())
    with h5py.File(data, "r+") as file:
        del file["episode_1"]
        file["episode_0/infos/other"] = h5py.ExternalLink(str(root / "other.hdf5"), "/")
        file["episode_1"] = h5py.SoftLink("/episode_0/infos/other/episode_1")
    with pytest.raises(ValueError, match=r"'episode_1' leads to another file, '.*other\.hdf5'"):
        load_dataset("minari:tests/own-v0", "E")


def test_rows_are_flattened_as_gymnasium_does() -> None:
    space = spaces.Dict(
        [
            ("z", spaces.Box(-1, 1, (2,), np.float32)),
            ("a", spaces.Dict({"c": spaces.Box(-1, 1, (1,)), "b": spaces.Box(-1, 1, (2, 2))})),
        ]
    )
    space.seed(0)
    samples = [space.sample() for _ in range(5)]
    stacked = {
        "a": {key: np.stack([sample["a"][key] for sample in samples]) for key in ("b", "c")},
        "z": np.stack([sample["z"] for sample in samples]),
    }
    expected = [spaces.flatten(space, sample) for sample in samples]
    np.testing.assert_array_equal(flatten_rows(space, stacked, "obs"), expected)


@pytest.mark.parametrize(
    ("space", "values", "message"),
    [
        (spaces.Discrete(3), np.zeros(4, np.int64), "obs are in a Discrete space"),
        (spaces.Dict({"a": spaces.Discrete(3)}), {"a": np.zeros(4)}, "obs/a are in a Discrete"),
        (spaces.Dict({"a": spaces.Box(0, 1, (1,))}), {"b": 1}, "obs lack 'a'"),
        (spaces.Box(0, 1, (2,)), np.zeros((4, 3), np.float32), r"obs hold float32 of shape \(4, 3"),
        (spaces.Box(0, 1, (2,)), np.zeros((4, 2), np.int64), "obs hold int64"),
    ],
)
def test_spaces_that_cannot_be_used(space: Any, values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flatten_rows(space, values, "obs")
