"""What servers do: damage, errors, redirects, silence, checksums; and the next mirror."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rllib_fmq.data.downloads import locate, mirrors, transfer
from rllib_fmq.data.downloads.download import download
from tests.data.downloads.samples import (
    CHANGED,
    DATA,
    DATASET,
    FILE,
    HALF,
    SHA256,
    TRAIN_PATH,
    VALIDATION,
    VALIDATION_PATH,
    names,
    npz_bytes,
)
from tests.data.downloads.servers import Fault, FaultyServer, Resource, serving

pytestmark = pytest.mark.usefixtures("quick")


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
