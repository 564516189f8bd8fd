"""Damaged variants of RLlib's recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rllib_fmq.data.formats.arrays import to_arrays
from tests.data.formats import recordings
from tests.data.formats.damage_common import LENGTHS, Variant, byte_damage, ends, object_array
from tests.data.formats.recordings import make_table


def rllib_damage(folder: Path, canary: Path) -> Iterator[Variant]:
    episodes = [
        recordings.rllib_episode(episode, f"e{number}")
        for number, episode in enumerate(recordings.episodes_of(make_table(LENGTHS)))
    ]
    parts = [part for episode in episodes for part in recordings.fragments_of(episode, [])]
    parts[2:3] = recordings.fragments_of(episodes[2], [5, 11])
    good = recordings.write_rllib(parts, folder / "rllib.parquet")
    yield from byte_damage(good, folder, ends(8, 600, 30))

    def state(number: int, **changes: Any) -> bytes:
        content = {**parts[number].get_state(), **changes}
        return bytes(msgpack.packb(content, default=recordings.pack))

    def buffer(number: int, name: str, change: Callable[[list[Any]], Any]) -> bytes:
        content = parts[number].get_state()[name]
        return state(number, **{name: {**content, "data": change(list(content["data"]))}})

    shorter = recordings.write_rllib([parts[0], *parts[2:]], folder / "rllib shorter.parquet")
    fewer = recordings.write_rllib([*parts[:3], *parts[4:]], folder / "rllib fewer.parquet")
    nan = np.full(recordings.OBS_DIM, np.nan, np.float32)
    far = np.full(recordings.ACTION_DIM, 5.0, np.float32)
    objects = object_array(canary, 3)
    changes: list[tuple[str, list[Any], str, Path | None]] = [
        ("pickled infos", [state(0, custom_data={"x": objects}), *parts[1:]], "", good),
        (
            "pickled",
            [buffer(0, "observations", lambda x: [objects, *x[1:]])],
            "row 0.*pickled",
            None,
        ),
        ("pickled all", [buffer(0, "actions", lambda x: objects)], "row 0.*pickled", None),
        ("lost step", [buffer(0, "rewards", lambda x: x[:-1])], "episode e0 has 13 obs", None),
        (
            "lost obs",
            [parts[1], buffer(0, "observations", lambda x: x[1:])],
            "row 1: episode",
            None,
        ),
        (
            "nan",
            [buffer(0, "observations", lambda x: [*x[:3], nan, *x[4:]])],
            "episode e0: observations is nan at row 3",
            None,
        ),
        (
            "late nan",
            [*parts[:3], buffer(3, "observations", lambda x: [*x[:3], nan, *x[4:]]), *parts[4:]],
            "episode e2: observations is nan at row 7, entry 0",
            None,
        ),
        (
            "far",
            [buffer(0, "actions", lambda x: [*x[:3], far, *x[4:]])],
            r"at row 3 \(episode 0, step 3\), entry 0",
            None,
        ),
        ("no buffer", [state(0, actions=None)], "row 0.*actions", None),
        ("no id", [state(0, id_=None)], "row 0.*id_", None),
        ("no rllib", [b"\x81\xa1a\x01"], "row 0", None),
        ("no msgpack", [b"\xc1\x00"], "row 0", None),
        ("discrete", [buffer(0, "actions", lambda x: [1] * len(x))], "row 0.*vectors", None),
        ("twice", [*parts, *parts], "", good),
        ("overlap", [*parts, *recordings.fragments_of(episodes[2], [4])], "overlap", None),
        ("contents", [*parts, buffer(0, "rewards", lambda x: [0.0, *x[1:]])], "twice", None),
        ("out of order", [parts[0], parts[1], parts[4], parts[3], parts[2], parts[5]], "", good),
        ("lost episode", [parts[0], *parts[2:]], "", shorter),
        ("lost fragment", [*parts[:3], *parts[4:]], "", fewer),
        ("none", [], "no transitions", None),
    ]
    for label, items, says, same in changes:
        path = recordings.write_rllib(items, folder / f"rllib {label}.parquet")
        yield Variant(path.name, path, same, says)


def rows_damage(folder: Path) -> Iterator[Variant]:
    """RLlib's recordings with a row a step."""
    table = make_table(LENGTHS, ended=[True, False, True, True])
    rows = table.num_steps
    arrays = to_arrays(table)
    content: dict[str, Any] = {
        "eps_id": [f"e{n}" for n, length in enumerate(LENGTHS) for _ in range(length)],
        "obs": arrays["observations"].tolist(),
        "actions": arrays["actions"].tolist(),
        "rewards": arrays["rewards"].tolist(),
        "new_obs": arrays["next_observations"].tolist(),
        "terminateds": arrays["terminated"].tolist(),
        "truncateds": arrays["truncated"].tolist(),
    }

    def write(label: str, **changes: Any) -> Path:
        path = folder / f"{label}.parquet"
        pq.write_table(
            pa.table({k: v for k, v in {**content, **changes}.items() if v is not None}), path
        )
        return path

    def put(key: str, row: int, value: Any) -> dict[str, Any]:
        return {key: [*content[key][:row], value, *content[key][row + 1 :]]}

    good = write("rows")
    yield from byte_damage(good, folder, ends(8, 1500, 30))
    nan, far = [np.nan] * recordings.OBS_DIM, [5.0] * recordings.ACTION_DIM
    numbers = [float(flag) for flag in content["terminateds"]]
    changes: list[tuple[str, dict[str, Any], str]] = [
        *((f"no {key}", {key: None}, key) for key in content),
        ("odd flag", {"terminateds": [*numbers[:13], 2.0, *numbers[14:]]}, "terminateds is 2.0 at"),
        ("odd cut", {"truncateds": [5, *[0] * (rows - 1)]}, "truncateds is 5 at row 0"),
        ("text flags", {"truncateds": ["False"] * rows}, "truncateds holds object"),
        ("lacking", put("rewards", 9, None), "rewards lacks values in 1 rows"),
        ("ragged", put("obs", 3, [1.0]), "obs has vectors of different sizes"),
        ("pickles", {"obs": ["gASV"] * rows}, "compressed into pickles"),
        ("late reward", put("rewards", 15, np.inf), "episode e2: rewards is inf at row 2 "),
        (
            "late nan",
            put("obs", 15, nan) | put("new_obs", 14, nan),
            "episode e2: observations is nan at row 2, entry 0",
        ),
        ("last nan", put("new_obs", rows - 1, nan), "episode e3: .* nan at row 7, entry 0"),
        ("far", put("actions", 14, far), r"\(episode 2, step 1\), entry 0"),
        ("goes on", put("terminateds", 14, True), "episode e2 ends at its row 1, but has more"),
    ]
    for label, change, says in changes:
        path = write(f"rows {label}", **change)
        yield Variant(path.name, path, says=says)
