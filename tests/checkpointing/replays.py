"""Folders of segments, and histories of replays to put into them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import pyarrow.fs as pafs
from fsspec.implementations.memory import MemoryFileSystem

from rllib_fmq.checkpointing.replay_store import ReplayStore
from rllib_fmq.learner.replay import ReplayTable
from tests.learner.replay_oracle import Episode, Oracle, make, replay_ops

Op = tuple[int, int, str]
"""Environment, length of the fragment, how it ends."""

_numbers = itertools.count()


def memory() -> pafs.FileSystem:
    """A filesystem that has no renaming in one step, nor anything on a disk."""
    return pafs.PyFileSystem(pafs.FSSpecHandler(MemoryFileSystem()))


def memory_store() -> ReplayStore:
    """A store in a folder of its own."""
    return ReplayStore(memory(), f"/run-{next(_numbers)}/replay")


def save(store: ReplayStore, table: ReplayTable, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Write, with the index as it comes out of a checkpoint's file."""
    index: dict[str, Any] = json.loads(json.dumps(store.write(table, known)))
    return index


def played(
    ops: list[Op], capacity: int, offline: list[list[bool]], mapped: bool = False
) -> tuple[ReplayTable, Oracle, dict[int, Episode]]:
    """A replay after some fragments."""
    table, oracle = make(capacity, *offline, mapped=mapped)
    running: dict[int, Episode] = {}
    replay_ops([table], oracle, ops, running)
    return table, oracle, running


def names(index: Mapping[str, Any]) -> list[str]:
    """Of an index's segments."""
    return [segment["name"] for segment in index["segments"]]


def new_rows(index: Mapping[str, Any], known: Mapping[str, Any] | None) -> int:
    """Rows that were written for an index."""
    before = set() if known is None else set(names(known))
    written = (s for s in index["segments"] if s["name"] not in before)
    return sum(s["last"] - s["first"] for s in written)
