"""Downloads from a real server that breaks off, lies, redirects, changes its files and hangs."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.filesize import decimal

from rllib_fmq.data.downloads import locate, mirrors, partial, transfer
from rllib_fmq.data.downloads.download import download
from rllib_fmq.data.downloads.mirrors import addresses, data_files
from rllib_fmq.tasks.catalog import find_task
from tests.data.downloads.servers import Fault, FaultyServer, Request, Resource, serving

DATASET = "cube-double-play-v0"
FILE, VALIDATION = f"{DATASET}.npz", f"{DATASET}-val.npz"
TRAIN_PATH, VALIDATION_PATH = f"/{FILE}", f"/{VALIDATION}"
CAN_FILE = "robomimic/can/mh/low_dim_v15.hdf5"


def npz_bytes(rows: int, seed: int) -> bytes:
    """An archive in OGBench's format that does not compress."""
    random = np.random.default_rng(seed)
    file = io.BytesIO()
    np.savez_compressed(
        file,
        observations=random.random((rows, 37)),
        actions=random.random((rows, 5)),
        terminals=np.zeros(rows, np.bool_),
        qpos=random.random((rows, 30)),
    )
    return file.getvalue()


DATA = npz_bytes(1500, 0)
CHANGED = npz_bytes(1500, 1)
SHA256 = hashlib.sha256(DATA).hexdigest()
HALF = len(DATA) // 2


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with serving() as faulty:
        faulty.files = {TRAIN_PATH: Resource(DATA), VALIDATION_PATH: Resource(npz_bytes(20, 2))}
        yield faulty


@pytest.fixture
def second_server() -> Iterator[FaultyServer]:
    with serving() as faulty:
        faulty.files = {TRAIN_PATH: Resource(DATA), VALIDATION_PATH: Resource(npz_bytes(20, 2))}
        yield faulty


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine, no pauses, short time-outs."""
    for name in ("RLLIB_FMQ_DATA_DIR", "RLLIB_FMQ_MIRRORS", "RLLIB_FMQ_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(locate, "OGBENCH_DIR", str(tmp_path / "home"))
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(transfer, "SILENCE_SECONDS", 0.5)


@pytest.fixture
def fetch(server: FaultyServer, tmp_path: Path) -> Callable[..., Path]:
    def call(*urls: str, dataset: str = DATASET, **options: object) -> Path:
        chosen = {"progress": False, "mirrors": urls or [server.url], **options}
        return download(dataset, data_dir=tmp_path / "data", **chosen)  # type: ignore[arg-type]

    return call


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def ranges(requests: list[Request]) -> list[str | None]:
    return [request.range for request in requests]


class TestWhole:
    def test_files_and_checksums(self, fetch: Callable[..., Path], tmp_path: Path) -> None:
        path = fetch()
        assert path == tmp_path / "data" / FILE
        assert path.read_bytes() == DATA
        assert names(path.parent) == {
            *(FILE, VALIDATION),
            *(f"{FILE}.sha256", f"{VALIDATION}.sha256"),
        }
        for name in (FILE, VALIDATION):
            checked = subprocess.run(["sha256sum", "-c", f"{name}.sha256"], cwd=path.parent)
            assert checked.returncode == 0
        assert (
            path.stat().st_mode & 0o777 == (path.parent / f"{FILE}.sha256").stat().st_mode & 0o777
        )

    @pytest.mark.parametrize(
        "name", ["cube-dbl-t3", "cube-double-play-singletask-task1-v0", DATASET]
    )
    def test_names(self, fetch: Callable[..., Path], name: str) -> None:
        assert fetch(dataset=name).name == FILE

    def test_default_folders(
        self, server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = download(DATASET, mirrors=[server.url], progress=False)
        assert path == tmp_path / "home" / FILE
        monkeypatch.setenv("RLLIB_FMQ_DATA_DIR", str(tmp_path / "variable"))
        path = download(DATASET, mirrors=[server.url], progress=False)
        assert path == tmp_path / "variable" / FILE

    def test_what_is_there_is_kept(
        self, fetch: Callable[..., Path], server: FaultyServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = fetch()
        asked = len(server.requests)
        assert fetch(progress=True) == path
        assert fetch(sha256=SHA256) == path
        assert fetch(offline=True) == path
        assert len(server.requests) == asked
        assert f"{FILE}: already there" in capsys.readouterr().err.replace("\n", "")

    def test_only_what_is_missing(self, fetch: Callable[..., Path], server: FaultyServer) -> None:
        fetch().unlink()
        server.requests.clear()
        fetch()
        assert [request.path for request in server.requests] == [TRAIN_PATH]

    def test_overwrite(self, fetch: Callable[..., Path], server: FaultyServer) -> None:
        path = fetch()
        server.files[TRAIN_PATH] = Resource(CHANGED)
        assert fetch(overwrite=True).read_bytes() == CHANGED
        assert hashlib.sha256(CHANGED).hexdigest() in (
            path.with_name(f"{FILE}.sha256").read_text(encoding="utf-8")
        )

    def test_failed_overwrite_keeps_the_old_file(
        self, fetch: Callable[..., Path], server: FaultyServer
    ) -> None:
        path = fetch()
        server.files[TRAIN_PATH] = Resource(lasting=Fault(status=404))
        with pytest.raises(FileNotFoundError):
            fetch(overwrite=True)
        assert path.read_bytes() == DATA

    def test_no_file_is_left_where_nothing_came(
        self, fetch: Callable[..., Path], server: FaultyServer, tmp_path: Path
    ) -> None:
        server.files.clear()
        with pytest.raises(FileNotFoundError):
            fetch()
        with pytest.raises(FileNotFoundError):
            fetch(dataset="can")
        assert not (tmp_path / "data").exists()

    def test_progress_and_remarks(
        self,
        fetch: Callable[..., Path],
        server: FaultyServer,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        fetch(f"{server.url}/nowhere", server.url, progress=True)
        out, err = capfd.readouterr()
        assert not out
        assert err.splitlines()[:4] == [
            f"downloading {server.url}/nowhere/{FILE}",
            "  HTTP 404 Not Found",
            f"downloading {server.url}/{FILE}",
            f"{tmp_path / 'data' / FILE}: {decimal(len(DATA))}, SHA-256 {SHA256}",
        ]

    def test_bar_on_a_terminal(
        self,
        fetch: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")  # has rich write as if to a terminal
        monkeypatch.setenv("COLUMNS", "100")
        fetch(progress=True)
        out, err = capfd.readouterr()
        assert not out
        last = [line for line in err.splitlines() if "MB/s" in line][-1]
        assert FILE in last and f"{decimal(len(DATA)).split()[0]}" in last and "━━━━━━━━━━" in last

    def test_silence(self, fetch: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
        fetch()
        assert capfd.readouterr() == ("", "")


class TestResume:
    def test_fetches_only_the_rest(self, fetch: Callable[..., Path], server: FaultyServer) -> None:
        server.files[TRAIN_PATH].faults = [Fault(drop_after=HALF), Fault(drop_after=HALF // 2)]
        assert fetch().read_bytes() == DATA
        requests = server.of(TRAIN_PATH)
        assert len(requests) == 3
        offsets = [int((request.range or "bytes=0-")[6:-1]) for request in requests]
        assert offsets[0] == 0 and HALF - transfer._CHUNK < offsets[1] <= HALF < offsets[2]
        assert [request.if_range for request in requests] == [None, '"v1"', '"v1"']
        # Nothing that had arrived was sent again, but for what the chunk under way held.
        assert requests[2].sent == len(DATA) - offsets[2]
        assert sum(request.sent for request in requests) <= len(DATA) + 2 * transfer._CHUNK

    def test_by_date_without_entity_tag(
        self, fetch: Callable[..., Path], server: FaultyServer
    ) -> None:
        date = "Wed, 21 Oct 2015 07:28:00 GMT"
        server.files[TRAIN_PATH] = Resource(
            DATA, etag=None, modified=date, faults=[Fault(drop_after=HALF)]
        )
        assert fetch().read_bytes() == DATA
        assert server.of(TRAIN_PATH)[1].if_range == date

    @pytest.mark.parametrize("etag", [None, 'W/"v1"'])
    def test_starts_again_where_a_change_would_not_show(
        self, fetch: Callable[..., Path], server: FaultyServer, etag: str | None, tmp_path: Path
    ) -> None:
        server.files[TRAIN_PATH] = Resource(DATA, etag=etag, faults=[Fault(drop_after=HALF)])
        assert fetch().read_bytes() == DATA
        assert ranges(server.of(TRAIN_PATH)) == [None, None]

    def test_in_a_later_process(
        self, fetch: Callable[..., Path], server: FaultyServer, tmp_path: Path
    ) -> None:
        server.files[TRAIN_PATH].faults = [Fault(drop_after=HALF)]
        server.files[TRAIN_PATH].lasting = Fault(status=503)
        with pytest.raises(FileNotFoundError, match="HTTP 503 Service Unavailable, after 5 atte"):
            fetch()
        assert names(tmp_path / "data") == {f"{FILE}.part", f"{FILE}.part.json"}
        kept = (tmp_path / "data" / f"{FILE}.part").stat().st_size
        server.files[TRAIN_PATH].lasting = None
        server.requests.clear()
        assert fetch().read_bytes() == DATA
        assert ranges(server.of(TRAIN_PATH)) == [f"bytes={kept}-"]
        assert not any("part" in name for name in names(tmp_path / "data"))

    def test_goes_on_with_the_mirror_that_it_began_with(
        self, fetch: Callable[..., Path], server: FaultyServer, second_server: FaultyServer
    ) -> None:
        server.files[TRAIN_PATH].lasting = Fault(status=404)
        second_server.files[TRAIN_PATH].faults = [Fault(drop_after=HALF)]
        second_server.files[TRAIN_PATH].lasting = Fault(status=503)
        with pytest.raises(FileNotFoundError):
            fetch(server.url, second_server.url)
        server.files[TRAIN_PATH].lasting = second_server.files[TRAIN_PATH].lasting = None
        server.requests.clear()
        assert fetch(server.url, second_server.url).read_bytes() == DATA
        assert not server.of(TRAIN_PATH)

    def test_another_mirror_starts_again(
        self, fetch: Callable[..., Path], server: FaultyServer, second_server: FaultyServer
    ) -> None:
        server.files[TRAIN_PATH] = Resource(CHANGED, faults=[Fault(drop_after=HALF)])
        server.files[TRAIN_PATH].lasting = Fault(status=404)
        assert fetch(server.url, second_server.url).read_bytes() == DATA
        assert ranges(second_server.of(TRAIN_PATH)) == [None]

    def test_server_without_ranges(self, fetch: Callable[..., Path], server: FaultyServer) -> None:
        server.files[TRAIN_PATH] = Resource(DATA, ranges=False, faults=[Fault(drop_after=HALF)])
        assert fetch().read_bytes() == DATA
        _, again = server.of(TRAIN_PATH)
        assert again.range is not None and again.sent == len(DATA)

    def test_always_broken_at_one_place_ends(
        self, fetch: Callable[..., Path], server: FaultyServer
    ) -> None:
        server.files[TRAIN_PATH] = Resource(DATA, ranges=False, lasting=Fault(drop_after=HALF))
        with pytest.raises(FileNotFoundError, match=r"the connection broke.*, after 5 attempts"):
            fetch()
        assert len(server.of(TRAIN_PATH)) == transfer.ATTEMPTS

    @pytest.mark.parametrize("conditions", [True, False])
    def test_changed_file_starts_again(
        self,
        fetch: Callable[..., Path],
        server: FaultyServer,
        tmp_path: Path,
        conditions: bool,
    ) -> None:
        server.files[TRAIN_PATH].faults = [Fault(drop_after=HALF)]
        server.files[TRAIN_PATH].lasting = Fault(status=503)
        with pytest.raises(FileNotFoundError):
            fetch()
        server.files[TRAIN_PATH] = Resource(CHANGED, etag='"v2"', conditions=conditions)
        server.requests.clear()
        assert fetch().read_bytes() == CHANGED
        # A server that passes over If-Range is found out by the tag of what it sends.
        assert len(server.of(TRAIN_PATH)) == (1 if conditions else 2)

    def test_shorter_file_starts_again(
        self, fetch: Callable[..., Path], server: FaultyServer, tmp_path: Path
    ) -> None:
        server.files[TRAIN_PATH].faults = [Fault(drop_after=HALF)]
        server.files[TRAIN_PATH].lasting = Fault(status=503)
        with pytest.raises(FileNotFoundError):
            fetch()
        small = npz_bytes(100, 3)
        server.files[TRAIN_PATH] = Resource(small, conditions=False)  # answers 416 first
        assert fetch().read_bytes() == small

    def test_complete_part_is_not_asked_for_again(
        self, fetch: Callable[..., Path], server: FaultyServer, tmp_path: Path
    ) -> None:
        folder = tmp_path / "data"
        folder.mkdir()
        (folder / f"{FILE}.part").write_bytes(DATA)
        notes = {"url": f"{server.url}{TRAIN_PATH}", "size": len(DATA), "etag": '"v1"'}
        (folder / f"{FILE}.part.json").write_text(json.dumps(notes), encoding="utf-8")
        assert fetch().read_bytes() == DATA
        assert not server.of(TRAIN_PATH)

    @pytest.mark.parametrize("notes", [None, "", "[]", '{"url": 1, "colour": 2}', '{"url": "x"}'])
    def test_part_of_unknown_origin(
        self, fetch: Callable[..., Path], server: FaultyServer, tmp_path: Path, notes: str | None
    ) -> None:
        folder = tmp_path / "data"
        folder.mkdir()
        (folder / f"{FILE}.part").write_bytes(b"something else")
        if notes is not None:
            (folder / f"{FILE}.part.json").write_text(notes, encoding="utf-8")
        assert fetch().read_bytes() == DATA
        assert ranges(server.of(TRAIN_PATH)) == [None]


class TestDamage:
    @pytest.mark.parametrize("short_by", [1, 1000, len(DATA) - 1])
    def test_truncated(
        self, fetch: Callable[..., Path], server: FaultyServer, tmp_path: Path, short_by: int
    ) -> None:
        server.files[TRAIN_PATH].lasting = Fault(short_by=short_by)
        server.files[TRAIN_PATH].ranges = False
        with pytest.raises(FileNotFoundError, match="the connection broke"):
            fetch()
        assert not (tmp_path / "data" / FILE).exists()

    def test_truncated_with_fitting_length(
        self, fetch: Callable[..., Path], server: FaultyServer, second_server: FaultyServer
    ) -> None:
        server.files[TRAIN_PATH] = Resource(DATA[:-1000])
        with pytest.raises(FileNotFoundError, match="no npz archive, or a truncated one"):
            fetch()
        assert fetch(server.url, second_server.url).read_bytes() == DATA

    @pytest.mark.parametrize("at", [0, 100, HALF, len(DATA) - 33, len(DATA) - 6])
    def test_flipped_bits(
        self, fetch: Callable[..., Path], server: FaultyServer, tmp_path: Path, at: int
    ) -> None:
        damaged = bytearray(DATA)
        damaged[at] ^= 0xFF
        server.files[TRAIN_PATH] = Resource(bytes(damaged))
        with pytest.raises(FileNotFoundError, match=r"failed: (damaged|no )"):
            fetch()
        assert not names(tmp_path / "data")

    def test_checksum_of_the_user(
        self, fetch: Callable[..., Path], server: FaultyServer, second_server: FaultyServer
    ) -> None:
        server.files[TRAIN_PATH] = Resource(CHANGED)
        with pytest.raises(FileNotFoundError, match=rf"what came has SHA-256 .*, not {SHA256}"):
            fetch(sha256=SHA256)
        path = fetch(server.url, second_server.url, sha256=SHA256.upper())
        assert path.read_bytes() == DATA
        assert path.with_name(f"{FILE}.sha256").read_text() == f"{SHA256}  {FILE}\n"

    def test_file_that_is_there_has_another_checksum(self, fetch: Callable[..., Path]) -> None:
        path = fetch()
        other = hashlib.sha256(CHANGED).hexdigest()
        with pytest.raises(ValueError, match=f"{path} is there, but its SHA-256 is {SHA256}, not"):
            fetch(sha256=other)

    def test_damaged_file_that_is_there(self, fetch: Callable[..., Path]) -> None:
        path = fetch()
        path.write_bytes(DATA[:1000])
        with pytest.raises(ValueError, match=rf"{path} is there but damaged: .*--overwrite"):
            fetch()
        assert fetch(overwrite=True).read_bytes() == DATA

    def test_generated_file_that_is_there(self, fetch: Callable[..., Path], tmp_path: Path) -> None:
        path = tmp_path / "data" / FILE
        path.parent.mkdir()
        with np.load(io.BytesIO(DATA)) as arrays:
            np.savez(path, generator=np.array("{}"), **arrays)
        with pytest.raises(FileExistsError, match=r"was generated, not downloaded: --overwrite"):
            fetch()
        assert fetch(overwrite=True).read_bytes() == DATA

    def test_web_page_instead(self, fetch: Callable[..., Path], server: FaultyServer) -> None:
        server.files[TRAIN_PATH] = Resource(b"<html>moved</html>")
        with pytest.raises(FileNotFoundError, match=r"no npz archive.*begins with b'<html>moved"):
            fetch()

    def test_other_archive(self, fetch: Callable[..., Path], server: FaultyServer) -> None:
        file = io.BytesIO()
        np.savez(file, observations=np.zeros(3))
        server.files[TRAIN_PATH] = Resource(file.getvalue())
        with pytest.raises(FileNotFoundError, match="lacks 'actions', 'terminals'"):
            fetch()


class TestServers:
    def test_mirrors_in_order(
        self, fetch: Callable[..., Path], server: FaultyServer, second_server: FaultyServer
    ) -> None:
        fetch(server.url, second_server.url)
        assert not second_server.requests
        server.files.clear()
        fetch(server.url, second_server.url + "/", overwrite=True)
        assert [request.path for request in second_server.requests] == [TRAIN_PATH, VALIDATION_PATH]

    def test_server_error_passes(self, fetch: Callable[..., Path], server: FaultyServer) -> None:
        server.files[TRAIN_PATH].faults = [Fault(status=500), Fault(status=429), Fault(status=503)]
        assert fetch().read_bytes() == DATA
        assert len(server.of(TRAIN_PATH)) == 4

    def test_pauses_grow_and_heed_the_server(
        self, fetch: Callable[..., Path], server: FaultyServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[float] = []
        monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 1.0)
        monkeypatch.setattr(transfer.time, "sleep", pauses.append)
        server.files[TRAIN_PATH].faults = [
            *(Fault(status=500), Fault(status=500)),
            Fault(status=429, headers={"Retry-After": "7"}),
            Fault(status=429, headers={"Retry-After": "86400"}),
        ]
        fetch()
        assert pauses == [1.0, 2.0, 7.0, 30.0]

    @pytest.mark.parametrize("status", [401, 403, 404, 410])
    def test_refusal_is_not_repeated(
        self, fetch: Callable[..., Path], server: FaultyServer, status: int
    ) -> None:
        server.files[TRAIN_PATH].lasting = Fault(status=status)
        with pytest.raises(FileNotFoundError, match=f"failed: HTTP {status} "):
            fetch()
        assert len(server.of(TRAIN_PATH)) == 1

    def test_redirect(
        self, fetch: Callable[..., Path], server: FaultyServer, second_server: FaultyServer
    ) -> None:
        second_server.files["/store/x"] = Resource(DATA, faults=[Fault(drop_after=HALF)])
        server.files[TRAIN_PATH] = Resource(redirect=f"{second_server.url}/store/x")
        assert fetch().read_bytes() == DATA
        begun, rest = second_server.requests
        assert begun.range is None and rest.range and rest.if_range == '"v1"'

    def test_redirect_in_a_circle(self, fetch: Callable[..., Path], server: FaultyServer) -> None:
        server.files[TRAIN_PATH] = Resource(redirect="/a")
        server.files["/a"] = Resource(redirect=TRAIN_PATH)
        with pytest.raises(FileNotFoundError, match="it redirects in a circle"):
            fetch()

    def test_hanging_before_the_answer(
        self, fetch: Callable[..., Path], server: FaultyServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transfer, "ATTEMPTS", 2)
        server.files[TRAIN_PATH].lasting = Fault(drop_after=0, hang=30)
        start = time.monotonic()
        with pytest.raises(FileNotFoundError, match=r"nothing came for 0\.5 s, after 2 attempts"):
            fetch()
        assert time.monotonic() - start < 10

    def test_hanging_in_the_middle(self, fetch: Callable[..., Path], server: FaultyServer) -> None:
        server.files[TRAIN_PATH].faults = [Fault(drop_after=HALF, hang=30)]
        assert fetch().read_bytes() == DATA
        assert server.of(TRAIN_PATH)[1].range is not None

    def test_nobody_listens(self, fetch: Callable[..., Path]) -> None:
        with serving() as gone:
            url = gone.url
        start = time.monotonic()
        with pytest.raises(FileNotFoundError) as caught:
            fetch(url)
        assert time.monotonic() - start < 5
        message = str(caught.value)
        assert "no connection" in message and "(is this machine offline?)" in message
        assert "`rllib data generate cube-double-play-v0 --steps 1000000 --seed 0 -o " in message
        assert f"`curl -fL --create-dirs -o {locate.data_dirs()[0].parent}/data/{FILE}" in message
        assert "\n" not in message

    def test_name_that_nobody_knows(self, fetch: Callable[..., Path]) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            fetch("http://no.such.host.invalid/x", "http://no.such.host.invalid/y")
        assert "downloading from no.such.host.invalid failed: no connection (" in str(caught.value)

    def test_proxy(
        self, fetch: Callable[..., Path], server: FaultyServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", server.url)
        base = "http://mirror.invalid/sets"
        server.files = {f"{base}{path}": file for path, file in server.files.items()}
        assert fetch(base).read_bytes() == DATA


class TestHuggingFace:
    """Its addresses redirect to storage, and tell SHA-256 and size of the file on the way."""

    PATH = f"/datasets/zhouzypaul/ogbench_datasets/resolve/main/{FILE}"

    @pytest.fixture
    def hub(self, server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> FaultyServer:
        monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
        monkeypatch.setattr(mirrors, "OGBENCH_HOST", f"{server.url}/official")
        monkeypatch.setattr(mirrors, "OGBENCH_HOST_PLAIN", f"{server.url}/plain")
        headers = {"X-Linked-ETag": f'"{SHA256}"', "X-Linked-Size": str(len(DATA))}
        server.files = {
            self.PATH: Resource(redirect="/storage/x", headers=headers),
            self.PATH.replace(FILE, VALIDATION): Resource(npz_bytes(20, 2)),
            "/storage/x": Resource(DATA),
        }
        return server

    @pytest.fixture
    def fetch(self, tmp_path: Path) -> Callable[..., Path]:
        def call(**options: object) -> Path:
            chosen = {"data_dir": tmp_path / "data", "progress": False, **options}
            return download(DATASET, **chosen)  # type: ignore[arg-type]

        return call

    def test_built_in_mirrors(self, fetch: Callable[..., Path], hub: FaultyServer) -> None:
        assert fetch().read_bytes() == DATA
        assert [request.path for request in hub.requests[:3]] == [
            *(f"/official/{FILE}", self.PATH, "/storage/x")
        ]

    def test_checksum(self, fetch: Callable[..., Path], hub: FaultyServer) -> None:
        hub.files["/storage/x"] = Resource(CHANGED[: len(DATA)].ljust(len(DATA), b"\0"))
        with pytest.raises(FileNotFoundError, match=rf"what came has SHA-256 .*, not {SHA256}"):
            fetch()

    def test_size(self, fetch: Callable[..., Path], hub: FaultyServer) -> None:
        hub.files["/storage/x"] = Resource(DATA + b"\0")
        with pytest.raises(FileNotFoundError, match=r"announces \d+ bytes, but offers \d+"):
            fetch()

    def test_other_file_than_the_user_wants(
        self, fetch: Callable[..., Path], hub: FaultyServer
    ) -> None:
        with pytest.raises(FileNotFoundError, match=f"another file there, with SHA-256 {SHA256}"):
            fetch(sha256="0" * 64)
        assert len(hub.of("/storage/x")) == 1

    def test_resumes_though_storage_servers_tag_differently(
        self, fetch: Callable[..., Path], hub: FaultyServer
    ) -> None:
        hub.files["/storage/x"].faults = [Fault(drop_after=HALF)]
        hub.files["/storage/y"] = Resource(DATA, etag='"other"')
        hub.files[self.PATH].redirect = ["/storage/x", "/storage/y"]
        assert fetch().read_bytes() == DATA
        (rest,) = hub.of("/storage/y")
        assert rest.range is not None and rest.sent < len(DATA)

    def test_changed_file_starts_again(self, fetch: Callable[..., Path], hub: FaultyServer) -> None:
        hub.files["/storage/x"].faults = [Fault(drop_after=HALF)]
        hub.files["/storage/x"].lasting = Fault(status=503)
        with pytest.raises(FileNotFoundError):
            fetch()
        headers = {"X-Linked-ETag": f'"{hashlib.sha256(CHANGED).hexdigest()}"'}
        hub.files[self.PATH] = Resource(redirect="/storage/x", headers=headers)
        hub.files["/storage/x"] = Resource(CHANGED)
        assert fetch().read_bytes() == CHANGED


class TestRoboMimic:
    @pytest.fixture
    def can(self, shared_data: Path) -> bytes:
        # Another task's, and smaller; what a download checks is the same.
        return (shared_data / "robomimic" / "square_scripted.hdf5").read_bytes()

    @pytest.mark.parametrize(
        "path",
        [
            "/v1.5/can/mh/low_dim_v15.hdf5",
            "/can/mh/low_dim_v15.hdf5",
            "/robomimic/can/mh/low_dim_v15.hdf5",
        ],
    )
    def test_layouts_of_mirrors(
        self, fetch: Callable[..., Path], server: FaultyServer, can: bytes, path: str
    ) -> None:
        server.files[path] = Resource(can)
        target = fetch(dataset="can")
        assert str(target).endswith(CAN_FILE) and target.read_bytes() == can
        assert names(target.parent) == {target.name, f"{target.name}.sha256"}

    def test_both_repositories(
        self,
        server: FaultyServer,
        can: bytes,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        layout = "/datasets/{}/resolve/main/v1.5/can/ph/low_dim_v15.hdf5"
        server.files[layout.format("amandlek/robomimic")] = Resource(can)
        target = download("can-ph", data_dir=tmp_path, progress=False)
        assert target == tmp_path / "robomimic/can/ph/low_dim_v15.hdf5"
        assert [request.path for request in server.requests] == [
            layout.format("robomimic/robomimic_datasets"),
            layout.format("amandlek/robomimic"),
        ]

    @pytest.mark.parametrize("cut", [4, 100, 5000, 1_900_000])
    def test_truncated(
        self, fetch: Callable[..., Path], server: FaultyServer, can: bytes, cut: int
    ) -> None:
        server.files["/can/mh/low_dim_v15.hdf5"] = Resource(can[:cut])
        with pytest.raises(FileNotFoundError, match=r"damaged or truncated|no HDF5 file"):
            fetch(dataset="can")

    def test_flipped_bits(
        self, fetch: Callable[..., Path], server: FaultyServer, can: bytes
    ) -> None:
        damaged = bytearray(can)
        for start in range(10_000, len(can), len(can) // 20):  # not all of it is in use
            damaged[start : start + 64] = bytes(byte ^ 0x55 for byte in can[start : start + 64])
        server.files["/can/mh/low_dim_v15.hdf5"] = Resource(bytes(damaged))
        with pytest.raises(FileNotFoundError, match="damaged or truncated"):
            fetch(dataset="can")

    def test_advice(self, fetch: Callable[..., Path]) -> None:
        with pytest.raises(
            FileNotFoundError, match=r"`rllib data generate square --seed 0 -o \S+` or wi"
        ):
            fetch(dataset="square", offline=True)
        with pytest.raises(FileNotFoundError) as caught:
            fetch(dataset="transport", offline=True)
        assert "rllib data generate" not in str(caught.value)


class TestArguments:
    def test_mirrors_of_the_environment(
        self, server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RLLIB_FMQ_MIRRORS", f" {server.url}/nowhere, {server.url} ")
        assert download(DATASET, data_dir=tmp_path, progress=False).read_bytes() == DATA
        assert server.requests[0].path == f"/nowhere/{FILE}"

    @pytest.mark.parametrize("mirror", ["/data/ogbench", "ftp://host/x", "http://", "host.org/x"])
    def test_mirror_that_is_none(self, fetch: Callable[..., Path], mirror: str) -> None:
        with pytest.raises(ValueError, match="mirror must be an http or https address such as"):
            fetch(mirror)

    def test_mirror_of_a_file(self, fetch: Callable[..., Path]) -> None:
        with pytest.raises(ValueError, match="must be the address of the folder"):
            fetch(f"http://host/{FILE}")

    def test_wrong_endpoint(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "hf-mirror.com")
        with pytest.raises(ValueError, match=r"\$HF_ENDPOINT must be an http"):
            download("can", data_dir=tmp_path, progress=False)

    @pytest.mark.parametrize("digits", ["", "abc", "0" * 63, "g" * 64])
    def test_wrong_sha256(self, fetch: Callable[..., Path], digits: str) -> None:
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            fetch(sha256=digits)

    def test_unknown_dataset(self, fetch: Callable[..., Path]) -> None:
        with pytest.raises(ValueError, match=r"'cube-duoble-play-v0'; did you mean 'cube-double"):
            fetch(dataset="cube-duoble-play-v0")

    @pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False)])
    def test_offline_variable(
        self,
        fetch: Callable[..., Path],
        server: FaultyServer,
        monkeypatch: pytest.MonkeyPatch,
        value: str,
        offline: bool,
    ) -> None:
        monkeypatch.setenv("RLLIB_FMQ_OFFLINE", value)
        if not offline:
            assert fetch().read_bytes() == DATA
            return
        with pytest.raises(FileNotFoundError, match=r"switched off.*`rllib data generate"):
            fetch()
        assert not server.requests

    def test_validation_part_alone_is_missing(
        self, fetch: Callable[..., Path], server: FaultyServer, tmp_path: Path
    ) -> None:
        del server.files[VALIDATION_PATH]
        with pytest.raises(FileNotFoundError, match=f"{FILE} is complete, but its validation part"):
            fetch()
        assert (tmp_path / "data" / FILE).read_bytes() == DATA

    def test_built_in_addresses(self) -> None:
        cube, can = find_task("cube-dbl-t3"), find_task("can")
        assert cube is not None and can is not None
        assert data_files(cube) == (FILE, VALIDATION)
        assert addresses(cube, VALIDATION) == [
            f"https://rail.eecs.berkeley.edu/datasets/ogbench/{VALIDATION}",
            "https://huggingface.co/datasets/zhouzypaul/ogbench_datasets/resolve/main/"
            f"{VALIDATION}",
            f"http://rail.eecs.berkeley.edu/datasets/ogbench/{VALIDATION}",
        ]
        assert addresses(can, CAN_FILE) == [
            f"https://huggingface.co/datasets/{name}/resolve/main/v1.5/can/mh/low_dim_v15.hdf5"
            for name in ("robomimic/robomimic_datasets", "amandlek/robomimic")
        ]


class TestDisk:
    def test_folder_is_a_file(self, server: FaultyServer, tmp_path: Path) -> None:
        (tmp_path / "data").touch()
        with pytest.raises(OSError, match=r"cannot write .*part: .*; choose another folder with"):
            download(DATASET, data_dir=tmp_path / "data", mirrors=[server.url], progress=False)

    def test_full(
        self, fetch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A limit on the size of files fails in the middle of writing, as a full disk does."""
        import resource

        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, limits[1]))
        try:
            with pytest.raises(OSError, match=rf"cannot write .*{FILE}\.part: File too large"):
                fetch()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (tmp_path / "data" / f"{FILE}.part").stat().st_size == HALF
        assert fetch().read_bytes() == DATA

    def test_locks_that_the_file_system_lacks(
        self, fetch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(partial.fcntl, "flock", refuse)
        assert fetch().read_bytes() == DATA


def start_download(folder: Path, url: str) -> subprocess.Popen[str]:
    """`download` in a process of its own; it skips loading Ray, as the command does."""
    code = (
        "import sys; sys.argv = ['rllib']\n"
        "from rllib_fmq.data.downloads.download import download\n"
        f"print(download({DATASET!r}, data_dir={str(folder)!r}, mirrors=[{url!r}]))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestProcesses:
    @pytest.mark.slow
    def test_two_at_once(self, server: FaultyServer, tmp_path: Path) -> None:
        server.files[TRAIN_PATH].faults = [Fault(drop_after=HALF, hang=3.0)]
        processes = [start_download(tmp_path, server.url) for _ in range(2)]
        outcomes = [
            (*process.communicate(timeout=100), process.returncode) for process in processes
        ]
        assert [code for *_, code in outcomes] == [0, 0], outcomes
        assert {out for out, *_ in outcomes} == {f"{tmp_path / FILE}\n"}
        assert (tmp_path / FILE).read_bytes() == DATA
        assert sum(request.sent for request in server.of(TRAIN_PATH)) < len(DATA) * 1.2
        assert not any("part" in name for name in names(tmp_path))

    def test_interrupted(self, server: FaultyServer, tmp_path: Path) -> None:
        server.files[TRAIN_PATH].faults = [Fault(drop_after=HALF, hang=60)]
        process = start_download(tmp_path, server.url)
        part = tmp_path / f"{FILE}.part"
        wait_for(lambda: part.is_file() and part.stat().st_size > HALF - transfer._CHUNK)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode != 0
        assert "is kept: the next download goes on there" in err.replace("\n", " ")
        kept = part.stat().st_size
        server.requests.clear()
        path = download(DATASET, data_dir=tmp_path, mirrors=[server.url], progress=False)
        assert path.read_bytes() == DATA
        assert ranges(server.of(TRAIN_PATH)) == [f"bytes={kept}-"]


def test_a_data_folder_is_a_mirror(fetch: Callable[..., Path], tmp_path: Path) -> None:
    """`python -m http.server` in a data folder serves others."""
    first = fetch().parent
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=first,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().split(" port ")[1].split()[0]
            path = download(
                DATASET,
                data_dir=tmp_path / "other",
                mirrors=[f"http://127.0.0.1:{port}"],
                progress=False,
            )
        finally:
            process.terminate()
    assert path.read_bytes() == DATA
    shutil.rmtree(tmp_path / "other")
