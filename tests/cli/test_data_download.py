"""`rllib data download` and `rllib data list`."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rllib_fmq.data.downloads import locate, transfer
from tests.command import Command, run_rllib
from tests.data.downloads.servers import Fault, FaultyServer, Resource, serving

FILE = "scene-play-v0.npz"


def npz_bytes() -> bytes:
    file = io.BytesIO()
    rows = np.random.default_rng(0).random((4000, 40))
    np.savez(file, observations=rows, actions=rows[:, :5], terminals=np.zeros(4000, np.bool_))
    return file.getvalue()


DATA = npz_bytes()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultyServer]:
    for name in ("RLLIB_FMQ_DATA_DIR", "RLLIB_FMQ_MIRRORS", "RLLIB_FMQ_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(locate, "OGBENCH_DIR", str(tmp_path / "home"))
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 0.0)
    with serving() as faulty:
        faulty.files = {f"/{FILE}": Resource(DATA), "/scene-play-v0-val.npz": Resource(DATA)}
        yield faulty


def test_download_then_list(rllib: Command, server: FaultyServer, tmp_path: Path) -> None:
    """The path alone on stdout; what happens on stderr; then it is on the list."""
    folder = tmp_path / "data"
    outcome = rllib("data", "download", "scene-t4", "--data-dir", folder, "--mirror", server.url)
    assert outcome.code == 0
    assert outcome.out == f"{folder / FILE}\n"
    assert f"downloading {server.url}/{FILE}" in outcome.err
    assert (folder / FILE).read_bytes() == DATA
    records = json.loads(rllib("data", "list", "--data-dir", folder, "--json").out)
    states = {record["short_name"]: record["on_disk"]["state"] for record in records}
    assert {name for name, state in states.items() if state == "official"} == {
        "scene-t4",
        "scene-t5",
    }
    assert len(states) == 12
    again = rllib("data", "download", "scene-t4", "--data-dir", folder, "--mirror", server.url)
    assert again.out == outcome.out and "already there" in again.err
    assert len(server.requests) == 2


def test_mirrors_checksum_and_overwrite(
    rllib: Command, server: FaultyServer, tmp_path: Path
) -> None:
    sha256 = hashlib.sha256(DATA).hexdigest()
    mirrors = ["--mirror", f"{server.url}/nowhere", "--mirror", server.url]
    command = ["data", "download", "scene-play-v0", "--data-dir", tmp_path, *mirrors]
    assert rllib(*command, "--sha256", sha256).code == 0
    paths = [request.path for request in server.requests]
    assert paths[:2] == [f"/nowhere/{FILE}", f"/{FILE}"]
    assert rllib(*command, "--sha256", "0" * 64, "--overwrite").code == 1
    assert rllib(*command, "--sha256", sha256, "--overwrite").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scene-t4", "--mirror", "{url}/nowhere"], "failed: HTTP 404 Not Found. Get one with"),
        (["scene-t4", "--mirror", "{url}", "--sha256", "0" * 64], "what came has SHA-256"),
        (["scene-t4", "--sha256", "abc"], "a SHA-256 has 64 hexadecimal digits, got 'abc'"),
        (["scene-t4", "--mirror", "host"], "mirror must be an http or https address"),
        (["scene-t44"], "did you mean 'scene-t4'"),
    ],
)
def test_one_line_of_error(
    rllib: Command, server: FaultyServer, tmp_path: Path, arguments: list[str], message: str
) -> None:
    filled = [argument.format(url=server.url) for argument in arguments]
    outcome = rllib("data", "download", *filled, "--data-dir", tmp_path)
    assert outcome.code == 1 and not outcome.out
    last = outcome.err.splitlines()[-1]
    assert last.startswith("rllib: ") and message in last
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["scene-t4", "can", "hmaze-med-t3", "transport"])
def test_offline_advice_is_not_cut(
    rllib: Command, server: FaultyServer, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """With the built-in mirrors, whose addresses are long."""
    monkeypatch.setenv("RLLIB_FMQ_OFFLINE", "1")
    outcome = rllib("data", "download", task)
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert "downloading is switched off" in line and line.endswith("`")


@pytest.mark.parametrize("more", [(), ("--all",)])
def test_list_is_a_table(
    rllib: Command, server: FaultyServer, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # not a terminal: it gets the columns that it needs
    outcome = rllib("data", "list", *more)
    assert outcome.code == 0 and not outcome.err
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert sum("humanoidmaze-medium-navigate" in line for line in lines) >= 1
    assert "rllib data download TASK" in outcome.out


def test_help(rllib: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = rllib("data", "download", "--help").out
    for option in ("--data-dir", "--mirror", "--sha256", "--overwrite"):
        assert option in text
    text = rllib("data", "list", "--help").out
    for option in ("--data-dir", "--all", "--json"):
        assert option in text


def test_list_is_quick() -> None:
    start = time.monotonic()
    outcome = run_rllib("data", "list", "--all", timeout=60)
    assert outcome.code == 0, outcome.err
    assert time.monotonic() - start < 15  # one to two seconds on an idle machine


def test_interrupted(server: FaultyServer, tmp_path: Path) -> None:
    server.files[f"/{FILE}"].faults = [Fault(drop_after=len(DATA) // 2, hang=60)]
    command = ["data", "download", "scene-t4", "--data-dir", str(tmp_path), "--mirror", server.url]
    process = subprocess.Popen(
        [sys.executable, "-m", "rllib_fmq.cli", *command], stderr=subprocess.PIPE, text=True
    )
    part = tmp_path / f"{FILE}.part"
    deadline = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "part is kept: the next download goes on there" in err and "Traceback" not in err
    assert part.is_file()
