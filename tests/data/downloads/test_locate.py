"""dataset="auto": local folders, downloading from a real server, and what to do without either."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rllib_fmq.data import load_dataset
from rllib_fmq.data.downloads import locate, mirrors, transfer
from rllib_fmq.data.downloads.locate import data_dirs, dataset_task, stand_in_command, ways_to_get
from rllib_fmq.data.downloads.locate import locate as locate_file
from rllib_fmq.tasks.catalog import all_tasks
from tests.data.downloads.servers import Fault, FaultyServer, Resource, serving

TASK = "pointmaze-medium-navigate-singletask-task1-v0"
FILE = "pointmaze-medium-navigate-v0.npz"
LOW_DIM = "low_dim_v15.hdf5"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """A server that stands in for OGBench's host and for Hugging Face."""
    with serving() as server:
        monkeypatch.setattr(mirrors, "OGBENCH_HOST", f"{server.url}/ogbench")
        monkeypatch.setattr(mirrors, "OGBENCH_HOST_PLAIN", f"{server.url}/ogbench")
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 0.0)
        yield server


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Folders of this test alone, none of them made yet."""
    made = {name: tmp_path / name for name in ("argument", "variable", "home")}
    monkeypatch.setenv("RLLIB_FMQ_DATA_DIR", str(made["variable"]))
    for name in ("RLLIB_FMQ_MIRRORS", "RLLIB_FMQ_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(locate, "OGBENCH_DIR", str(made["home"]))
    monkeypatch.setattr(locate, "ROBOMIMIC_DIR", str(tmp_path / "robomimic"))
    return made


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_order_of_folders(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_dirs(folders["argument"]) == list(folders.values())
    monkeypatch.delenv("RLLIB_FMQ_DATA_DIR")
    assert data_dirs() == [folders["home"]]
    for name in ("home", "variable", "argument"):
        monkeypatch.setenv("RLLIB_FMQ_DATA_DIR", str(folders["variable"]))
        put(folders[name] / FILE)
        assert locate_file(TASK, data_dir=folders["argument"]) == folders[name] / FILE


def test_order_of_robomimics_places(folders: dict[str, Path], tmp_path: Path) -> None:
    """Each place comes before those that were filled earlier; scripts' data come last."""
    places = [
        folders["home"] / "robomimic/can/scripted" / LOW_DIM,
        folders["variable"] / "robomimic/can/scripted" / LOW_DIM,
        tmp_path / "robomimic/can/mh" / LOW_DIM,
        folders["home"] / "robomimic/can/mh" / LOW_DIM,
        folders["variable"] / "robomimic/can/mh" / LOW_DIM,
        folders["argument"] / "robomimic/can/mh" / LOW_DIM,
    ]
    for place in places:
        put(place)
        for name in ("can", "can-mh", "can-mh-low_dim"):
            assert locate_file(name, data_dir=folders["argument"], download=False) == place


def test_other_sources_and_tasks_are_not_taken(folders: dict[str, Path]) -> None:
    put(folders["home"] / "robomimic/can/mh" / LOW_DIM)
    for name in ("can-ph", "square"):
        with pytest.raises(FileNotFoundError):
            locate_file(name, download=False)
    scripted = put(folders["home"] / "robomimic/can/scripted" / LOW_DIM)
    assert locate_file("can-ph", download=False) == scripted


def test_every_task_has_a_place(folders: dict[str, Path]) -> None:
    tasks = all_tasks()
    for task in tasks:
        path = put(folders["home"] / task.dataset_file)
        assert locate_file(task.name, download=False) == path
        assert task.short_name is None or locate_file(task.short_name, download=False) == path
        assert dataset_task(task.dataset).dataset_file == task.dataset_file
    assert len({task.dataset_file for task in tasks}) == 59


def test_auto_takes_a_local_file(maze_file: Path, folders: dict[str, Path]) -> None:
    folders["variable"].mkdir()
    shutil.copy(maze_file, folders["variable"])
    table = load_dataset("auto", TASK, download=False)
    assert table.num_steps == 600


def test_auto_downloads(maze_file: Path, served: FaultyServer, folders: dict[str, Path]) -> None:
    served.files[f"/ogbench/{FILE}"] = Resource(maze_file.read_bytes())
    path = locate_file(TASK)
    assert path == folders["variable"] / FILE
    assert path.read_bytes() == maze_file.read_bytes()
    # Only what training reads, and its checksum.
    assert {file.name for file in path.parent.iterdir()} == {FILE, f"{FILE}.sha256"}
    assert len(served.requests) == 1


def test_auto_downloads_robomimic(
    shared_data: Path, served: FaultyServer, folders: dict[str, Path]
) -> None:
    data = (shared_data / "robomimic" / "square_scripted.hdf5").read_bytes()
    address = f"/datasets/robomimic/robomimic_datasets/resolve/main/v1.5/square/mh/{LOW_DIM}"
    served.files[address] = Resource(data)
    path = locate_file("square")
    assert path == folders["variable"] / "robomimic/square/mh" / LOW_DIM
    assert path.read_bytes() == data


def test_what_is_on_disk_wins_over_downloading(
    served: FaultyServer, folders: dict[str, Path]
) -> None:
    scripted = put(folders["home"] / "robomimic/square/scripted" / LOW_DIM)
    assert locate_file("square") == scripted
    assert not served.requests


def test_broken_download_leaves_no_dataset(
    maze_file: Path, served: FaultyServer, folders: dict[str, Path]
) -> None:
    resource = Resource(maze_file.read_bytes(), ranges=False, lasting=Fault(short_by=1000))
    served.files[f"/ogbench/{FILE}"] = resource
    with pytest.raises(FileNotFoundError, match=r"downloading http.* failed.*connection broke"):
        locate_file(TASK)
    assert not (folders["variable"] / FILE).exists()
    resource.lasting = None
    assert locate_file(TASK).read_bytes() == maze_file.read_bytes()


def test_download_that_is_no_dataset_leaves_nothing(
    served: FaultyServer, folders: dict[str, Path]
) -> None:
    served.files[f"/ogbench/{FILE}"] = Resource(b"<html>moved</html>")
    with pytest.raises(FileNotFoundError, match="failed"):
        locate_file(TASK)
    assert not folders["variable"].exists()


def test_without_a_file_it_names_the_commands(
    served: FaultyServer, folders: dict[str, Path]
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset("auto", TASK)
    message = str(caught.value)
    assert "404" in message
    assert "`rllib data generate pointmaze-medium-navigate-v0 --steps 1000000 --seed 0`" in message
    target = folders["variable"] / FILE
    assert f"`curl -fL --create-dirs -o {target} {mirrors.OGBENCH_HOST}/{FILE}`" in message
    assert f"`rllib train --env {TASK} --dataset FILE`" in message
    for folder in ("variable", "home"):
        assert str(folders[folder]) in message
    assert "\n" not in message


def test_offline(
    served: FaultyServer, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLLIB_FMQ_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"switched off \(\$RLLIB_FMQ_OFFLINE\)"):
        locate_file(TASK)
    with pytest.raises(FileNotFoundError, match=r"switched off.*`rllib data generate lift --seed"):
        locate_file("lift", download=False)
    assert not served.requests and not folders["variable"].exists()


def test_unwritable_folder(served: FaultyServer, folders: dict[str, Path]) -> None:
    folders["variable"].touch()  # a file
    served.files[f"/ogbench/{FILE}"] = Resource(b"x")
    with pytest.raises(FileNotFoundError, match=r"cannot write .*`rllib data generate"):
        locate_file(TASK)


def test_does_not_promise_a_generator_that_does_not_exist(served: FaultyServer) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        locate_file("tool_hang")
    assert "rllib data generate" not in str(caught.value)
    assert "curl" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("cube-dbl-t3", "rllib data generate cube-double-play-v0 --steps 1000000 --seed 0"),
        ("scene-t4", "rllib data generate scene-play-v0 --steps 1000000 --seed 0"),
        ("can", "rllib data generate can --seed 0"),
        ("square-ph", "rllib data generate square --seed 0"),
        ("transport", None),
        (
            "amaze-gnt-t4",
            "rllib data generate antmaze-giant-navigate-v0 --policy FILE.npz --steps 1000000 "
            "--seed 0",
        ),
        ("antsoccer-arena-navigate-singletask-task1-v0", None),
    ],
)
def test_stand_ins(name: str, command: str | None) -> None:
    assert stand_in_command(dataset_task(name)) == command


def test_advice_makes_the_data_where_they_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLLIB_FMQ_DATA_DIR", str(tmp_path))
    task = dataset_task("can")
    assert "`rllib data generate can --seed 0`" in ways_to_get(task, tmp_path)
    own = tmp_path / "my data"
    assert f"`rllib data generate can --seed 0 -o '{own}'`" in ways_to_get(task, own)


def test_no_standard_dataset() -> None:
    with pytest.raises(ValueError, match="no dataset is known for environment 'Pendulum-v1'"):
        load_dataset("auto", "Pendulum-v1")


def test_stand_ins_are_those_that_scripts_make(folders: dict[str, Path]) -> None:
    from rllib_fmq.data.generation.demonstrate import generated_demonstrations

    robomimic = [task for task in all_tasks() if task.benchmark == "robomimic"]
    promised = {task.name.split("-")[0] for task in robomimic if stand_in_command(task)}
    assert promised == set(generated_demonstrations())
