"""A folder of segments: filesystems, interrupted writes, what is removed, and what is refused."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pytest

from rllib_fmq.checkpointing import replay_store, whole_files
from rllib_fmq.checkpointing.replay_store import ReplayStore
from rllib_fmq.learner.replay import ReplayTable
from tests.learner.replay_oracle import assert_same_windows, make

from .replays import Op, memory, names, played, save

OPS: list[Op] = [(0, 5, "open"), (1, 4, "truncated"), (0, 3, "open")]
CAPACITY = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "replay"


@pytest.fixture
def store(folder: Path) -> ReplayStore:
    return ReplayStore(pafs.LocalFileSystem(), str(folder))


@pytest.fixture
def table() -> ReplayTable:
    return played(OPS, CAPACITY, [])[0]


def restored(store: ReplayStore, index: dict[str, Any]) -> ReplayTable:
    fresh, _ = make(CAPACITY)
    store.read(fresh, index)
    return fresh


# --- Filesystems -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["local", "subtree", "memory", "object store"])
def test_any_filesystem_will_do(
    kind: str, tmp_path: Path, table: ReplayTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Callable[[], pafs.FileSystem]] = {
        "local": pafs.LocalFileSystem,
        "subtree": lambda: pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()),
        "memory": memory,
        "object store": memory,
    }
    filesystem = made[kind]()
    if kind == "object store":  # one that would not rename
        monkeypatch.setattr(whole_files, "_OBJECT_STORES", (filesystem.type_name,))
        monkeypatch.setattr(type(filesystem.handler.fs), "mv", None)
    folder = {"local": f"{tmp_path}/replay/", "subtree": "run/replay"}.get(kind, f"/{kind}/replay")
    store = ReplayStore(filesystem, folder)
    index = save(store, played(OPS[:2], CAPACITY, [])[0], None)
    index = save(store, table, index)
    assert len(index["segments"]) == 2
    # A remote learner gets a copy of the store.
    assert_same_windows(table, restored(pickle.loads(pickle.dumps(store)), index), 3)
    assert store.remove_unused([]) == sorted(names(index))


def test_files_are_synced_before_they_get_their_name(
    store: ReplayStore, folder: Path, table: ReplayTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[set[str]] = []

    def fsync(handle: int) -> None:
        synced.append({path.suffix for path in folder.iterdir()} if folder.exists() else set())

    monkeypatch.setattr(whole_files.os, "fsync", fsync)
    store.write(table, None)
    assert synced == [set(), {".tmp"}, {".npz"}]  # the folder's name, the file, the file's name


def test_an_interrupted_write_leaves_nothing_and_harms_nothing(
    store: ReplayStore, folder: Path, table: ReplayTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = save(store, played(OPS[:1], CAPACITY, [])[0], None)
    with monkeypatch.context() as patch:
        free = [None] * 2

        def almost_full(handle: int) -> None:
            if not free:
                raise OSError(28, "No space left on device")
            free.pop()

        patch.setattr(whole_files.os, "fsync", almost_full)
        patch.setattr(replay_store, "SEGMENT_ROWS", 2)
        with pytest.raises(OSError, match="No space left"):
            store.write(table, index)
        assert free == []
    assert [path.name for path in folder.iterdir()] == names(index)
    assert restored(store, index).num_online == 5
    assert_same_windows(table, restored(store, save(store, table, index)), 3)


def test_only_segments_that_nobody_needs_are_removed(
    store: ReplayStore, folder: Path, table: ReplayTable
) -> None:
    assert store.remove_unused([]) == []  # no folder yet
    first = save(store, played(OPS[:1], CAPACITY, [])[0], None)
    second = save(store, table, first)
    other = save(store, table, None)
    left_over = folder / f".{names(other)[0]}.tmp"
    foreign = (folder / "rows.npz", folder / ".hidden.tmp", folder / "rows-1-2-note.npz")
    for path in (left_over, *foreign):
        path.write_bytes(b"x")
    removed = store.remove_unused([first, second])
    assert removed == sorted([left_over.name, *names(other)])
    assert {path.name for path in folder.iterdir()} == {*names(second), *(p.name for p in foreign)}


# --- What is refused ---------------------------------------------------------------------------


def test_a_missing_segment(store: ReplayStore, folder: Path, table: ReplayTable) -> None:
    index = save(store, table, None)
    (folder / names(index)[0]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"needs .*{names(index)[0]}, which is missing"):
        restored(store, index)


@pytest.mark.parametrize("damage", ["short", "long", "flipped"])
def test_a_damaged_segment(
    store: ReplayStore, folder: Path, table: ReplayTable, damage: str
) -> None:
    index = save(store, table, None)
    path = folder / names(index)[0]
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    path.write_bytes({"short": data[:-1], "long": data + b"x", "flipped": flipped}[damage])
    with pytest.raises(ValueError, match=r"replay is damaged: .*rows-.*(bytes instead|checksum)"):
        restored(store, index)


OBJECTS = np.array([[object()]], dtype=object)


@pytest.mark.parametrize(
    "changes",
    [
        {"obs": OBJECTS},
        {"obs": np.zeros(12, np.float32)},
        {"obs": np.zeros((11, 3), np.float32)},
        {"rewards": np.zeros(12)},
        {"terminated": np.zeros((12, 1), bool)},
        {"joins": np.zeros((2, 3), np.int64)},
        {"joins": np.array([[3, 3]])},
        {"joins": np.array([[-1, 3]])},
        {"joins": np.array([[3, 12]])},
        {"ends": np.array([8, 12])},
        {"ends": np.array([11, 8])},
        {"ends": np.array([8])},
        {"end_obs": np.zeros((2, 4), np.float32)},
        {"ends": np.zeros(0, np.int64), "end_obs": np.zeros((0, 3), np.float32)},
        {"actions": None},
    ],
)
def test_a_segment_of_nonsense(
    store: ReplayStore, folder: Path, table: ReplayTable, changes: dict[str, Any]
) -> None:
    index = save(store, table, None)
    path = folder / names(index)[0]
    with np.load(path) as archive:
        columns = {name: archive[name] for name in archive.files} | changes
    buffer = io.BytesIO()
    np.savez(buffer, **{name: c for name, c in columns.items() if c is not None})
    path.write_bytes(buffer.getvalue())
    (entry,) = index["segments"]
    entry["bytes"] = len(buffer.getvalue())
    entry["checksum"] = hashlib.blake2b(buffer.getvalue(), digest_size=16).hexdigest()
    with pytest.raises(ValueError, match="replay is damaged"):
        restored(store, index)


def test_observations_of_another_size(store: ReplayStore, table: ReplayTable) -> None:
    index = save(store, table, None)
    with pytest.raises(ValueError, match=r"size 3 and actions of size 2, this run 4 and 2"):
        store.read(ReplayTable(CAPACITY, 4, 2), index)


def test_a_table_that_does_not_fit(store: ReplayStore, table: ReplayTable) -> None:
    index = save(store, table, None)
    for capacity, offline in ((11, []), (40, [[False] * 3])):
        fresh, _ = make(capacity, *offline)
        with pytest.raises(ValueError, match="resume with the same dataset"):
            store.read(fresh, index)


def change(index: dict[str, Any], key: str, value: Any) -> None:
    index[key] = value


def change_segment(index: dict[str, Any], key: str, value: Any) -> None:
    index["segments"][0][key] = value


def with_name(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda index: change_segment(index, "name", name)


@pytest.mark.parametrize(
    "damage",
    [
        lambda index: index.clear(),
        lambda index: index.pop("open"),
        lambda index: change(index, "format_version", "new"),
        lambda index: change(index, "num_added", None),
        lambda index: change(index, "num_added", 13),
        lambda index: change(index, "num_added", -1),
        lambda index: change(index, "capacity", -100),
        lambda index: change(index, "open", ["a"]),
        lambda index: change(index, "open", {"a": 12}),
        lambda index: change(index, "segments", None),
        lambda index: change(index, "segments", []),
        lambda index: change(index, "segments", ["rows"]),
        lambda index: change(index, "segments", index["segments"][1:]),
        lambda index: change(index, "segments", index["segments"][:1]),
        lambda index: change(index, "segments", index["segments"][::-1]),
        lambda index: change_segment(index, "first", 1),
        lambda index: change_segment(index, "first", -1),
        lambda index: change_segment(index, "last", 5.0),
        lambda index: change_segment(index, "size", 5),
        lambda index: index["segments"][0].pop("bytes"),
        with_name("rows.npz"),
        with_name("../rows-0-5-0123456789abcdef.npz"),
        with_name("/etc/passwd"),
        lambda index: change_segment(index, "name", 7),
    ],
)
def test_a_damaged_index(
    store: ReplayStore, table: ReplayTable, damage: Callable[[dict[str, Any]], None]
) -> None:
    index = save(store, table, save(store, played(OPS[:1], CAPACITY, [])[0], None))
    damage(index)
    with pytest.raises(ValueError, match="index of its replay is damaged"):
        restored(store, index)


def test_a_newer_format(store: ReplayStore, table: ReplayTable) -> None:
    index = save(store, table, None)
    index["format_version"] = 2
    with pytest.raises(ValueError, match=r"has format 2, and .* up to 1: upgrade"):
        restored(store, index)
