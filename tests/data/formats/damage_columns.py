"""Damaged variants of a folder of mapped columns."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from rllib_fmq.data.formats import columns
from rllib_fmq.data.formats.columns import write_columns
from rllib_fmq.data.table import COLUMNS
from tests.data.formats.damage_common import (
    LENGTHS,
    Variant,
    byte_damage,
    changed,
    ends,
    object_array,
)
from tests.data.formats.recordings import make_table


def columns_damage(folder: Path, canary: Path) -> Iterator[Variant]:
    good = write_columns(folder / "good.columns", [make_table(LENGTHS)], source="made")
    for part, header in (
        ("obs.npy", ends(128, 0, 20)),
        ("episode_end.npy", ends(128, 0, 12)),
        ("meta.json", ends(900, 0, 30)),
    ):
        yield from byte_damage(good, folder, header, part)
    for file in sorted(good.iterdir()):
        path = folder / f"lacks {file.stem}.columns"
        shutil.copytree(good, path)
        (path / file.name).unlink()
        yield Variant(path.name, path, says=file.name)
    path = folder / "objects.columns"
    shutil.copytree(good, path)
    np.save(path / "rewards.npy", object_array(canary, sum(LENGTHS)), allow_pickle=True)
    yield Variant(path.name, path, says=r"rewards\.npy")
    for column in COLUMNS:  # damage that leaves sizes and headers as they were
        data = (good / f"{column}.npy").read_bytes()
        for offset in ends(0, len(data) - 130, 3)(len(data)):
            path = folder / f"body {column} {offset}.columns"
            shutil.copytree(good, path)
            damaged = bytearray(data)
            damaged[offset] ^= 1 << (offset % 8)
            (path / f"{column}.npy").write_bytes(damaged)
            yield Variant(path.name, path, says=column, verify=True)
    yield from column_contents(good, folder)


def column_contents(good: Path, folder: Path) -> Iterator[Variant]:
    """Columns with wrong contents; their checksums are right where `checked`."""
    values = {name: np.load(good / f"{name}.npy") for name in COLUMNS}
    changes: list[tuple[str, str, Callable[[np.ndarray], np.ndarray], str, bool]] = [
        *(
            (f"{value} {name}", name, changed(3 if name == "final_obs" else 15, value), says, True)
            for value in (np.nan, np.inf)
            for name, says in (
                ("obs", r"obs is (nan|inf) at row 15 \(episode 2, step 2\), entry 0"),
                ("actions", r"actions is (nan|inf) at row 15 \(episode 2, step 2\), entry 0"),
                ("rewards", r"rewards is (nan|inf) at row 15 \(episode 2, step 2\) \("),
                ("final_obs", r"final_obs is (nan|inf) at row 3 \(episode 3\), entry 0"),
            )
        ),
        (
            "outside",
            "actions",
            changed((14, 1), 7.0),
            r"action 7\.0 at row 14 \(episode 2, step 1\), entry 1",
            True,
        ),
        ("no end", "episode_end", changed(-1, 0), "last row must end an episode", True),
        ("more ends", "episode_end", changed(3, 1), "5 rows end an episode", True),
        ("ints", "rewards", lambda x: x.astype(np.int32), r"rewards\.npy: it holds int32", False),
        ("bytes", "terminated", lambda x: x.astype(np.uint8), r"npy: it holds uint8", False),
        ("doubles", "obs", lambda x: x.astype(np.float64), r"obs\.npy: it has \d+ bytes", False),
        ("big endian", "obs", lambda x: x.astype(">f4"), r"obs\.npy: it holds >f4", False),
        ("wide", "actions", lambda x: x.reshape(-1, 1), r"actions\.npy: it holds", False),
    ]
    shapes = {name: array.shape for name, array in values.items()}
    for label, name, change, says, checked in changes:
        path = folder / f"contents {label}.columns"
        shutil.copytree(good, path)
        np.save(path / f"{name}.npy", change(values[name].copy()))
        if checked:
            columns._write_meta(path, shapes, "made", None)
        yield Variant(path.name, path, says=says, verify=True)
