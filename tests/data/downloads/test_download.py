"""Downloads of whole datasets: files, checksums, arguments, disks."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.filesize import decimal

from rllib_fmq.data.downloads import partial
from rllib_fmq.data.downloads.download import download
from rllib_fmq.data.downloads.mirrors import addresses, data_files
from rllib_fmq.tasks.catalog import find_task
from tests.data.downloads.samples import (
    CAN_FILE,
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
)
from tests.data.downloads.servers import Fault, FaultyServer, Resource

pytestmark = pytest.mark.usefixtures("quick")


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
