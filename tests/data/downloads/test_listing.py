"""`rllib data list`: every task, what the paper scored on it, and what of it is on the disk."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.filesize import decimal

from rllib_fmq.data.downloads import locate
from rllib_fmq.data.downloads.listing import Listed, dataset_table, list_tasks, paper_tables
from rllib_fmq.tasks.catalog import all_tasks, paper_tasks


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that is looked in."""
    monkeypatch.delenv("RLLIB_FMQ_DATA_DIR", raising=False)
    monkeypatch.setattr(locate, "OGBENCH_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(locate, "ROBOMIMIC_DIR", str(tmp_path / "robomimic"))
    return tmp_path / "data"


def write_npz(path: Path, **more: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    members = dict.fromkeys(("observations", "actions", "terminals"), np.zeros(100))
    np.savez(path, **members, **more)  # type: ignore[arg-type]
    return path


def write_hdf5(path: Path, **attributes: str) -> Path:
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update({"env_args": "{}", **attributes})
        data.create_group("demo_0")
    return path


def printed(renderable: object, width: int = 100) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    return console.export_text()


def entry(name: str) -> Listed:
    (found,) = (entry for entry in list_tasks(every=True) if entry.task.name == name)
    return found


def test_nothing_is_there() -> None:
    listed = list_tasks()
    assert [entry.task for entry in listed] == paper_tasks()
    assert {(entry.state, entry.path, entry.size) for entry in listed} == {("missing", None, 0)}
    assert [entry.task for entry in list_tasks(every=True)] == all_tasks()


@pytest.mark.parametrize("more", [{}, {"generator": np.array("{}")}])
def test_ogbench_file(folder: Path, more: dict[str, np.ndarray]) -> None:
    path = write_npz(folder / "cube-double-play-v0.npz", **more)
    found = [entry for entry in list_tasks(every=True) if entry.state != "missing"]
    assert [entry.task.name for entry in found] == [
        f"cube-double-play-singletask-task{number}-v0" for number in (3, 4, 1, 2, 5)
    ]
    expected = ("generated" if more else "official", path, path.stat().st_size)
    assert {(entry.state, entry.path, entry.size) for entry in found} == {expected}


def test_robomimic_files(folder: Path) -> None:
    scripted = write_hdf5(folder / "robomimic/can/scripted/low_dim_v15.hdf5")
    write_hdf5(folder / "robomimic/square/ph/low_dim_v15.hdf5")
    write_hdf5(folder / "robomimic/lift/mh/low_dim_v15.hdf5", generator="{}")
    states = {entry.task.name: entry.state for entry in list_tasks(every=True)}
    assert states["can-mh"] == states["can-ph"] == "generated"
    assert entry("can-mh").path == scripted
    assert states["square-ph"] == "official" and states["square-mh"] == "missing"
    assert states["lift-mh"] == "generated"
    official = write_hdf5(folder / "robomimic/can/mh/low_dim_v15.hdf5")
    assert (entry("can-mh").state, entry("can-mh").path) == ("official", official)


def test_shared_files(shared_data: Path) -> None:
    states = {
        entry.task.dataset: entry.state
        for entry in list_tasks(data_dir=shared_data / "ogbench", every=True)
    }
    present = {path.stem for path in (shared_data / "ogbench").glob("*.npz")}
    assert {name for name, state in states.items() if state == "official"} == {
        name for name in present if not name.endswith("-val")
    }


def test_damaged_file(folder: Path) -> None:
    path = write_npz(folder / "scene-play-v0.npz")
    path.write_bytes(path.read_bytes()[:-100])
    assert entry("scene-play-singletask-task4-v0").state == "damaged"
    can = folder / "robomimic/can/mh/low_dim_v15.hdf5"
    can.parent.mkdir(parents=True)
    can.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 50)
    assert entry("can-mh").state == "damaged"


def test_tables_show_everything(folder: Path) -> None:
    path = write_npz(folder / "cube-triple-play-v0.npz", generator=np.array("{}"))
    text = printed(paper_tables(list_tasks()))
    for task in paper_tasks():
        assert task.name in text and (task.short_name or "?") in text and task.rewards in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["cube-trl-t4"][:9] == [
        *("cube-trl-t4", "88±7", "87±5", "32±7", "37±26"),
        *("generated", *decimal(path.stat().st_size).split(), path.name),
    ]
    assert "│" not in text and "…" not in text
    assert str(folder) in text
    assert max(map(len, text.splitlines())) <= 100


def test_all_tasks_by_dataset(folder: Path) -> None:
    write_npz(folder / "puzzle-4x6-noisy-v0.npz")
    text = printed(dataset_table(list_tasks(every=True)))
    for task in all_tasks():
        assert text.count(f" {task.dataset} ") >= 1
    assert "259 tasks on 59 datasets" in text
    (row,) = (line.split() for line in text.splitlines() if "puzzle-4x6-noisy-v0" in line)
    assert row[:5] == ["puzzle-4x6-noisy-v0", "115", "5", "1000", "official"]
    assert "…" not in text and max(map(len, text.splitlines())) <= 100


def test_as_dict(folder: Path) -> None:
    path = write_npz(folder / "cube-double-play-v0.npz")
    record = entry("cube-double-play-singletask-task3-v0").as_dict()
    assert record["short_name"] == "cube-dbl-t3" and record["obs_dim"] == 37
    assert record["paper_scores"]["FMQ + QGBS"] == (1.0, 0.0)
    assert record["on_disk"] == {
        "state": "official",
        "path": str(path),
        "size": path.stat().st_size,
    }


def test_needs_no_simulator_and_reads_no_arrays(folder: Path) -> None:
    """A file of a gigabyte (with holes) is listed at once; Ray, torch and MuJoCo stay out."""
    path = folder / "cube-double-play-v0.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, observations=np.zeros(9), actions=np.zeros(9), terminals=np.zeros(9))
    directory = path.read_bytes()
    with path.open("r+b") as file:  # zip archives are found from their end
        file.truncate(0)
        file.seek(10**9)
        file.write(directory)
    code = (
        "import sys, time; sys.argv = ['rllib']\n"
        "from rllib_fmq.data.downloads.listing import list_tasks\n"
        "start = time.monotonic()\n"
        f"listed = list_tasks(data_dir={str(folder)!r}, every=True)\n"
        "assert time.monotonic() - start < 2\n"
        "assert [entry.size > 10**9 for entry in listed].count(True) == 5\n"
        "heavy = {'ray', 'torch', 'mujoco', 'ogbench', 'robosuite'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    start = time.monotonic()
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert time.monotonic() - start < 20
