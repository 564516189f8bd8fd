"""Servers, and a download from them, without this machine's settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rllib_fmq.data.downloads import locate, transfer
from rllib_fmq.data.downloads.download import download
from tests.data.downloads.samples import DATA, DATASET, TRAIN_PATH, VALIDATION_PATH, npz_bytes
from tests.data.downloads.servers import FaultyServer, Resource, serving


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


@pytest.fixture
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
