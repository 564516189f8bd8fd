"""Checkpoint folders: whole or not there, wherever they lie."""

from __future__ import annotations

import errno
import json
import os
import uuid
from pathlib import Path

import fsspec
import pyarrow.fs as pafs
import pytest

from rllib_fmq.checkpointing import folders
from rllib_fmq.checkpointing.folders import (
    clear_errors,
    latest_whole,
    new_checkpoint,
    readable_locally,
    resolve,
    saving_alone,
    whole_folder,
)
from rllib_fmq.checkpointing.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    IncompleteCheckpointError,
    check_whole,
    read_manifest,
)
from rllib_fmq.rollout.checkpoints import find_checkpoint

FILES = {
    "rllib_checkpoint.json": '{"rllib_fmq_format": 2}',
    "learner_group/learner/state.pkl": "the networks",
    "algorithm_state.pkl": "the counters",
}


@pytest.fixture(params=["local", "subtree", "memory"])
def filesystem(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[pafs.FileSystem, str]:
    """A filesystem and a folder on it."""
    if request.param == "local":
        return pafs.LocalFileSystem(), str(tmp_path)
    if request.param == "subtree":
        return pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "runs"
    memory = pafs.PyFileSystem(pafs.FSSpecHandler(fsspec.filesystem("memory")))
    return memory, f"/{uuid.uuid4()}"  # one store for all of a process


def save(filesystem: pafs.FileSystem, folder: str, text: str = "first") -> None:
    with new_checkpoint(filesystem, folder, {"note": text}) as staged:
        for name, content in (FILES | {"text": text}).items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_text(content)


def read(filesystem: pafs.FileSystem, path: str) -> str:
    with filesystem.open_input_stream(path) as file:
        return bytes(file.read()).decode()


def test_a_checkpoint_is_there_whole_and_is_replaced(
    filesystem: tuple[pafs.FileSystem, str],
) -> None:
    store, root = filesystem
    for text in ("first", "second"):
        save(store, f"{root}/run/checkpoint", text)
        folder, manifest = whole_folder(store, f"{root}/run/checkpoint")
        assert folder == f"{root}/run/checkpoint" and manifest is not None
        assert set(manifest.files) == {*FILES, "text"} and manifest.notes == {"note": text}
        assert read(store, f"{folder}/text") == text
    beside = store.get_file_info(pafs.FileSelector(f"{root}/run"))
    assert [info.base_name for info in beside] == ["checkpoint"]


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_damage_is_found(filesystem: tuple[pafs.FileSystem, str], name: str, damage: str) -> None:
    store, root = filesystem
    save(store, f"{root}/c")
    content = read(store, f"{root}/c/{name}")
    if damage == "missing":
        store.delete_file(f"{root}/c/{name}")
    else:
        changed = content[:-3] if damage == "cut" else content.replace(content[5], "#", 1)
        with store.open_output_stream(f"{root}/c/{name}") as file:
            file.write(changed.encode())
    with pytest.raises(IncompleteCheckpointError, match=r"incomplete.*use an earlier one"):
        whole_folder(store, f"{root}/c")
    assert latest_whole(store, [f"{root}/c"]) is None


def test_a_save_that_fails_leaves_nothing_and_the_last_one(
    filesystem: tuple[pafs.FileSystem, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, root = filesystem
    store.create_dir(root)
    with pytest.raises(KeyError), new_checkpoint(store, f"{root}/c", {}):
        raise KeyError
    assert store.get_file_info(pafs.FileSelector(root)) == []
    save(store, f"{root}/c")

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    # Where the files are copied or renamed, after the new ones are written.
    monkeypatch.setattr(folders, "_upload", fail)
    monkeypatch.setattr(folders, "_sync", fail)
    untouched = r"the disk is full.*earlier checkpoints are untouched"
    with pytest.raises(OSError, match=untouched), clear_errors("c"):
        save(store, f"{root}/c", "second")
    assert read(store, f"{whole_folder(store, f'{root}/c')[0]}/text") == "first"
    assert len(store.get_file_info(pafs.FileSelector(root))) == 1


def test_a_kill_while_a_checkpoint_is_overwritten_elsewhere(
    filesystem: tuple[pafs.FileSystem, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, root = filesystem
    if isinstance(store, pafs.LocalFileSystem):
        pytest.skip("renamed there")
    save(store, f"{root}/c")
    upload = folders._upload

    def killed(staged: Path, where: pafs.FileSystem, folder: str, manifest: object) -> None:
        if folder.endswith("/c"):
            raise KeyboardInterrupt
        upload(staged, where, folder, manifest)  # type: ignore[arg-type]

    monkeypatch.setattr(folders, "_upload", killed)
    with pytest.raises(KeyboardInterrupt):
        save(store, f"{root}/c", "second")
    folder, _ = whole_folder(store, f"{root}/c")
    assert read(store, f"{folder}/text") == "second"
    monkeypatch.setattr(folders, "_upload", upload)
    save(store, f"{root}/c", "third")
    assert whole_folder(store, f"{root}/c")[0] == f"{root}/c"
    assert len(store.get_file_info(pafs.FileSelector(root))) == 1


def test_without_an_atomic_exchange_one_of_the_two_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = pafs.LocalFileSystem()
    save(local, str(tmp_path / "c"))
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    save(local, str(tmp_path / "c"), "second")
    assert (tmp_path / "c/text").read_text() == "second"
    rename = os.rename

    def killed(source: str | Path, target: str | Path) -> None:
        if ".partial-" in str(source):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        save(local, str(tmp_path / "c"), "third")
    assert not (tmp_path / "c").exists()
    assert (find_checkpoint(tmp_path / "c") / "text").read_text() == "second"


def test_nothing_of_an_overwritten_checkpoint_stays(
    filesystem: tuple[pafs.FileSystem, str],
) -> None:
    store, root = filesystem
    with new_checkpoint(store, f"{root}/c", {}) as staged:
        (staged / "rllib_checkpoint.json").write_text('{"rllib_fmq_format": 2}')
        (staged / "state.msgpack").write_text("old")
    save(store, f"{root}/c")
    folder, manifest = whole_folder(store, f"{root}/c")
    with readable_locally(store, folder, manifest) as local:
        found = {p.relative_to(local).as_posix() for p in local.rglob("*") if p.is_file()}
    assert found == {*FILES, "text", MANIFEST}
    if not isinstance(store, pafs.LocalFileSystem):
        with store.open_output_stream(f"{root}/c/state.msgpack") as file:
            file.write(b"planted")
        with readable_locally(store, folder, manifest) as local:
            assert not (local / "state.msgpack").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", ""])
def test_a_manifest_lists_files_of_its_folder_only(tmp_path: Path, name: str) -> None:
    save(pafs.LocalFileSystem(), str(tmp_path / "c"))
    manifest = tmp_path / "c" / MANIFEST
    content = json.loads(manifest.read_text())
    content["files"][name] = [1, "0"]
    manifest.write_text(json.dumps(content))
    with pytest.raises(IncompleteCheckpointError, match="is damaged"):
        whole_folder(pafs.LocalFileSystem(), str(tmp_path / "c"))


@pytest.mark.parametrize("content", ["{}", '{"name": "a site"}', "[]"])
def test_another_projects_manifest_is_not_ours(tmp_path: Path, content: str) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / MANIFEST).write_text(content)
    (tmp_path / "site" / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match="holds other things"):
        save(pafs.LocalFileSystem(), str(tmp_path / "site"))
    assert (tmp_path / "site" / "thesis.tex").read_text() == "years"


def test_a_part_of_a_copy_is_known_as_ours(
    filesystem: tuple[pafs.FileSystem, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, root = filesystem
    save(store, f"{root}/c")
    for name in (MANIFEST, "algorithm_state.pkl"):
        store.delete_file(f"{root}/c/{name}")
    save(store, f"{root}/c", "second")
    assert read(store, f"{whole_folder(store, f'{root}/c')[0]}/text") == "second"


def test_left_overs_of_a_kill_go_with_the_next_save(tmp_path: Path) -> None:
    (tmp_path / ".c.partial-abc").mkdir()
    (tmp_path / ".c.partial-abc" / "state.pkl").write_text("half")
    save(pafs.LocalFileSystem(), str(tmp_path / "c"))
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_places_that_are_refused(tmp_path: Path) -> None:
    local = pafs.LocalFileSystem()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "paper.txt").write_text("mine")
    for name, why in (("file", "it is a file"), ("notes", "holds other things.*paper.txt")):
        with pytest.raises(ValueError, match=why):
            save(local, str(tmp_path / name))
    assert (tmp_path / "notes" / "paper.txt").read_text() == "mine"
    with pytest.raises(OSError, match="a part of the path is a file"), clear_errors("x"):
        save(local, str(tmp_path / "file" / "c"))
    (tmp_path / "empty").mkdir()
    save(local, str(tmp_path / "empty"))
    assert check_whole(local, str(tmp_path / "empty")) is not None


@pytest.mark.parametrize(
    ("number", "why"), [(errno.EROFS, "read-only"), (errno.EACCES, "no permission")]
)
def test_reasons_are_named(number: int, why: str) -> None:
    message = f"cannot save a checkpoint to /x: .*{why}"
    with pytest.raises(OSError, match=message), clear_errors("/x"):
        raise OSError(number, os.strerror(number))


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    local = pafs.LocalFileSystem()
    save(local, str(tmp_path / "c"))
    manifest = json.loads((tmp_path / "c" / MANIFEST).read_text())
    manifest |= {"format_version": FORMAT_VERSION + 1, "package_version": "9.0"}
    del manifest["files"]
    (tmp_path / "c" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"made by version 9.0.*upgrade rllib-fmq"):
        whole_folder(local, str(tmp_path / "c"))
    (tmp_path / "c").rename(tmp_path / "checkpoint_000001")
    with pytest.raises(ValueError, match=r"made by version 9.0.*upgrade rllib-fmq"):
        find_checkpoint(tmp_path)


def test_the_latest_whole_checkpoint_of_a_trial(tmp_path: Path) -> None:
    local = pafs.LocalFileSystem()
    for number in (0, 1, 2):
        save(local, str(tmp_path / f"trial/checkpoint_{number:06d}"))
    assert find_checkpoint(tmp_path / "trial").name == "checkpoint_000002"
    (tmp_path / "trial/checkpoint_000002" / MANIFEST).unlink()  # a copy that was cut off
    assert find_checkpoint(tmp_path).name == "checkpoint_000001"
    (tmp_path / "trial/checkpoint_000001/algorithm_state.pkl").write_text("the countors")
    assert find_checkpoint(tmp_path / "trial").name == "checkpoint_000000"
    with pytest.raises(ValueError, match=f"has no {MANIFEST}"):
        find_checkpoint(tmp_path / "trial/checkpoint_000002")
    (tmp_path / "trial/checkpoint_000000" / MANIFEST).write_text("{")
    with pytest.raises(FileNotFoundError, match="Left out: 3 whose save or copy"):
        find_checkpoint(tmp_path / "trial")


def test_checkpoints_of_format_1_have_no_manifest(tmp_path: Path) -> None:
    local = pafs.LocalFileSystem()
    (tmp_path / "old/learner_group").mkdir(parents=True)
    (tmp_path / "old/rllib_checkpoint.json").write_text('{"checkpoint_version": "2.1"}')
    assert read_manifest(local, str(tmp_path / "old")) is None
    assert find_checkpoint(tmp_path / "old") == tmp_path / "old"
    (tmp_path / "old/rllib_checkpoint.json").write_text('{"checkpoint_ver')
    with pytest.raises(IncompleteCheckpointError):
        read_manifest(local, str(tmp_path / "old"))
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        read_manifest(local, str(tmp_path))


def test_saves_into_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with saving_alone(tmp_path):
        child = os.fork()
        if child == 0:
            with saving_alone(tmp_path):
                os.write(writer, b"in")
            os._exit(0)
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 2)
    os.waitpid(child, 0)
    assert os.read(reader, 2) == b"in"


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given in (tmp_path / "a b", f"{tmp_path}/a b/", "a b", (tmp_path / "a b").as_uri()):
        filesystem, folder = resolve(given)
        assert isinstance(filesystem, pafs.LocalFileSystem) and folder == str(tmp_path / "a b")
