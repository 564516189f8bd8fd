"""Where a run's segments are, as other processes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from rllib_fmq.checkpointing.replay_place import address_of
from tests.checkpointing.replays import memory


def test_a_local_address(tmp_path: Path) -> None:
    address = address_of(pafs.LocalFileSystem(), str(tmp_path / "a b"))
    found, path = pafs.FileSystem.from_uri(address)
    assert isinstance(found, pafs.LocalFileSystem) and path == str(tmp_path / "a b")


def test_an_address_leads_to_the_same_filesystem() -> None:
    amazon = pafs.S3FileSystem(region="eu-west-1")
    found, path = pafs.FileSystem.from_uri(address_of(amazon, "bucket/run/replay"))
    assert found.equals(amazon) and path == "bucket/run/replay"


@pytest.mark.parametrize(
    "settings",
    [{"endpoint_override": "localhost:9000", "scheme": "http"}, {"anonymous": True}],
    ids=["own endpoint", "anonymous"],
)
def test_what_an_address_cannot_say_has_none(settings: dict[str, Any]) -> None:
    assert address_of(pafs.S3FileSystem(region="us-east-1", **settings), "bucket/run") is None


def test_filesystems_without_addresses(tmp_path: Path) -> None:
    subtree = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    assert address_of(memory(), "/run") is None and address_of(subtree, "run") is None
