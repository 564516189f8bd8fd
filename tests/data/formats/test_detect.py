"""Telling formats apart, and what is said where none fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rllib_fmq.data import load_dataset
from rllib_fmq.data.formats.columns import write_columns
from rllib_fmq.data.formats.d4rl_hdf5 import write_d4rl
from rllib_fmq.data.formats.detect import detect, load, resolve
from rllib_fmq.data.formats.transitions_npz import write_transitions
from tests.data.formats.recordings import (
    episodes_of,
    make_table,
    rllib_episode,
    write_minari,
    write_rllib,
    write_robomimic_file,
)

TABLE = make_table([4, 3])


def write_all(folder: Path) -> dict[str, Path]:
    """The same table in every format that can hold it, under names that tell nothing."""
    paths = {
        "plain": write_transitions(folder / "a.npz", TABLE),
        "d4rl": write_d4rl(folder / "b.hdf5", TABLE),
        "columns": write_columns(folder / "c.columns", [TABLE], source="made"),
    }
    episodes = [rllib_episode(part, f"e{i}") for i, part in enumerate(episodes_of(TABLE))]
    paths["rllib"] = write_rllib(episodes, folder / "recorded" / "run" / "d.parquet").parents[1]
    for name in ("plain", "d4rl"):
        paths[name] = paths[name].rename(folder / name)
    return paths


def test_contents_tell_the_format(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    for name, path in write_all(tmp_path).items():
        assert detect(path) == name
        assert load_dataset(path, "MyEnv-v0").fingerprint == TABLE.fingerprint, name
        assert load(path, None).fingerprint == TABLE.fingerprint


def test_minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.warns(UserWarning):
        write_minari(TABLE, "tests/own-v0")
    path = resolve("minari:tests/own-v0")
    assert path == tmp_path / "tests" / "own-v0"
    assert detect(path) == detect(path / "data") == "minari"


def test_robomimic_and_its_filter_keys(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    path = write_robomimic_file(tmp_path / "own.hdf5", [5, 4, 3])
    assert detect(path) == "robomimic"
    assert load_dataset(path, "can").num_steps == 12
    assert load_dataset(path, "can", filter_key="valid").num_steps == 3
    with pytest.raises(ValueError, match="does not belong to the task 'cube-dbl-t3'"):
        load_dataset(path, "cube-dbl-t3")


def test_filter_keys_are_robomimics_only(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    for name, path in write_all(tmp_path).items():
        with pytest.raises(ValueError, match=rf"filter key \('train'\) .* format '{name}'"):
            load_dataset(path, "MyEnv-v0", filter_key="train")


def test_unknown_files_and_folders(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "other.hdf5"
    with h5py.File(path, "w") as file:
        file["states"] = np.ones(3)
    with pytest.raises(ValueError, match=r"other\.hdf5 has no known format but states\. Expected"):
        detect(path)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"dataset folder .*folder is empty: .*Expected"):
        detect(folder)
    for number in range(20):
        (folder / f"{number:02}.txt").touch()
    with pytest.raises(ValueError, match=r"11\.txt and 8 more\. Expected OGBench's npz"):
        detect(folder)
    (folder / "x.txt").write_text("text")
    with pytest.raises(ValueError, match=r"cannot read dataset .*x\.txt"):
        detect(folder / "x.txt")
    pq.write_table(pa.table({"x": [1]}), folder / "x.parquet")
    with pytest.raises(ValueError, match="was not recorded by RLlib"):
        load(folder, None)


def test_shards_are_to_be_converted(tmp_path: Path) -> None:
    for number in range(2):
        write_transitions(tmp_path / f"part-{number}.npz", TABLE)
    with pytest.raises(ValueError, match=r"is a folder of npz files: .*`rllib data convert"):
        load_dataset(tmp_path, "MyEnv-v0")
    paths = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"one path, got list: .*`rllib data convert"):
        load_dataset(paths, "MyEnv-v0")  # type: ignore[arg-type]


def test_ogbench_needs_a_task(maze_file: Path) -> None:
    with pytest.raises(ValueError, match="holds no rewards: name the task"):
        load(maze_file, None)
