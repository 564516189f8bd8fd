"""dataset="auto": local folders, downloading from a real server, and what to do without either."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rllib_fmq.data import load_dataset, locate
from rllib_fmq.data.locate import data_dirs
from rllib_fmq.data.locate import locate as locate_file

TASK = "pointmaze-medium-navigate-singletask-task1-v0"
FILE = "pointmaze-medium-navigate-v0.npz"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    cut = 0

    def log_message(self, *args: Any) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        data = source.read()
        outputfile.write(data[: len(data) - self.cut])


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder behind an HTTP server that stands in for OGBench's host."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(locate, "DATASET_URL", f"http://127.0.0.1:{server.server_port}")
        yield folder
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Folders of this test alone, none of them made yet."""
    made = {name: tmp_path / name for name in ("argument", "variable", "home")}
    monkeypatch.setenv("RLLIB_FMQ_DATA_DIR", str(made["variable"]))
    monkeypatch.setattr(locate, "OGBENCH_DIR", str(made["home"]))
    return made


def test_order_of_folders(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_dirs(folders["argument"]) == list(folders.values())
    monkeypatch.delenv("RLLIB_FMQ_DATA_DIR")
    assert data_dirs() == [folders["home"]]
    for name in ("home", "variable", "argument"):
        monkeypatch.setenv("RLLIB_FMQ_DATA_DIR", str(folders["variable"]))
        folders[name].mkdir()
        (folders[name] / FILE).touch()
        assert locate_file(TASK, data_dir=folders["argument"]) == folders[name] / FILE


def test_auto_takes_a_local_file(maze_file: Path, folders: dict[str, Path]) -> None:
    folders["variable"].mkdir()
    shutil.copy(maze_file, folders["variable"])
    table = load_dataset("auto", TASK, download=False)
    assert table.num_steps == 600


def test_auto_downloads(maze_file: Path, served: Path, folders: dict[str, Path]) -> None:
    shutil.copy(maze_file, served)
    path = locate_file(TASK)
    assert path == folders["variable"] / FILE
    assert path.read_bytes() == maze_file.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == [FILE]


def test_broken_download_leaves_nothing(
    maze_file: Path, served: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(maze_file, served)
    monkeypatch.setattr(_Quiet, "cut", 1000)
    with pytest.raises(FileNotFoundError, match=r"downloading http.* failed"):
        locate_file(TASK)
    assert not list(folders["variable"].iterdir())


def test_download_that_is_no_dataset_leaves_nothing(served: Path, folders: dict[str, Path]) -> None:
    (served / FILE).write_text("<html>moved</html>")
    with pytest.raises(FileNotFoundError, match="failed"):
        locate_file(TASK)
    assert not list(folders["variable"].iterdir())


def test_without_a_file_it_names_the_commands(served: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset("auto", TASK)
    message = str(caught.value)
    assert "404" in message
    assert "`rllib data generate pointmaze-medium-navigate-v0 --steps 1000000 --seed 0`" in message
    target = folders["variable"] / FILE
    assert f"`curl -fL --create-dirs -o {target} {locate.DATASET_URL}/{FILE}`" in message
    assert f"`rllib train --env {TASK} --dataset FILE`" in message
    assert "\n" not in message


def test_does_not_promise_a_generator_that_does_not_exist(served: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        locate_file("antmaze-giant-navigate-singletask-task4-v0")
    assert "rllib data generate" not in str(caught.value)
    assert "curl" in str(caught.value)


def test_no_standard_dataset() -> None:
    with pytest.raises(ValueError, match="no dataset is known for environment 'Pendulum-v1'"):
        load_dataset("auto", "Pendulum-v1")
