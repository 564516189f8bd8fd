"""A download goes on where it was, or starts over where the file is another one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_fmq.data.downloads import transfer
from rllib_fmq.data.downloads.download import download
from tests.data.downloads.samples import (
    CHANGED,
    DATA,
    DATASET,
    FILE,
    HALF,
    TRAIN_PATH,
    names,
    npz_bytes,
    ranges,
)
from tests.data.downloads.servers import Fault, FaultyServer, Resource

pytestmark = pytest.mark.usefixtures("quick")


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
