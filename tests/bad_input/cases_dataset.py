"""Datasets that are damaged, incomplete, of no known format, or another environment's."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rllib_fmq.data import TransitionTable
from rllib_fmq.data.formats.columns import write_columns
from tests.bad_input.harness import Case, fmq

_EPISODES, _STEPS = 3, 8
Arrays = dict[str, Any]
Change = Callable[[Arrays], None]
_ROBOMIMIC = {"env_name": "Lift", "env_version": "1.5.1", "type": 1, "env_kwargs": {}}


def good_arrays() -> Arrays:
    """A sound dataset with Pendulum's sizes, in the plain format."""
    rng = np.random.default_rng(0)
    rows = _EPISODES * _STEPS
    obs = rng.uniform(-1, 1, (_EPISODES, _STEPS + 1, 3)).astype(np.float32)
    last = np.arange(rows) % _STEPS == _STEPS - 1
    return {
        "observations": obs[:, :-1].reshape(rows, 3),
        "actions": rng.uniform(-2, 2, (rows, 1)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "next_observations": obs[:, 1:].reshape(rows, 3),
        "terminated": last & (np.arange(rows) < _STEPS),
        "truncated": last & (np.arange(rows) >= _STEPS),
    }


def npz(arrays: Mapping[str, Any]) -> bytes:
    """An npz archive in memory."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def hdf5(arrays: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> bytes:
    """An HDF5 file in memory; keys may be paths, attributes are of the group ``data``."""
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        for name, array in arrays.items():
            content[name] = array
        for name, value in (attributes or {}).items():
            content.require_group("data").attrs[name] = value
    return file.getvalue()


def columns() -> dict[str, bytes]:
    """The files of a sound folder of columns."""
    arrays = good_arrays()
    ends = arrays["terminated"] | arrays["truncated"]
    table = TransitionTable.from_columns(
        obs=arrays["observations"],
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        terminated=arrays["terminated"],
        episode_end=ends,
        final_obs=arrays["next_observations"][ends],
        source="made",
    )
    with tempfile.TemporaryDirectory() as folder:
        made = write_columns(Path(folder) / "d.columns", [table], source="made")
        return {file.name: file.read_bytes() for file in made.iterdir()}


def cases() -> list[Case]:
    """All of them."""
    return [
        *_contents(),
        *_unfit(),
        *_not_datasets(),
        *_zip_files(),
        *_hdf5_files(),
        *_columns_folders(),
        *_folders(),
    ]


def _info(name: str, file: str, content: str | bytes, says: str = "") -> Case:
    return Case(name, ("data", "info", file), says or file, {file: content})


def _put(key: str, row: int, value: Any) -> Change:
    def change(arrays: Arrays) -> None:
        arrays[key][row] = value

    return change


def _replace(key: str, make: Callable[[Any], Any]) -> Change:
    def change(arrays: Arrays) -> None:
        arrays[key] = make(arrays[key])

    return change


def _contents() -> Iterator[Case]:
    """Arrays of the plain format that are not what they must be."""
    keys = tuple(good_arrays())
    vectors = ("observations", "actions", "next_observations")
    numbers = (*vectors, "rewards")
    changes: list[tuple[str, Change, str]] = [
        *((f"no {key}", lambda a, k=key: a.pop(k), key) for key in keys),  # type: ignore[misc]
        *((f"short {key}", _replace(key, lambda x: x[:-1]), key) for key in keys if key != keys[0]),
        *((f"flat {key}", _replace(key, lambda x: x[:, 0]), key) for key in vectors),
        *((f"deep {key}", _replace(key, lambda x: x[:, :, None]), key) for key in vectors),
        *((f"text {key}", _replace(key, lambda x: x.astype("S4")), key) for key in keys),
        *((f"complex {key}", _replace(key, lambda x: x * 1j), key) for key in numbers),
        *((f"pickled {key}", _replace(key, lambda x: x.astype(object)), key) for key in keys),
        *(
            (f"{value} in {key}", _put(key, 9, value), "row 9")
            for key in numbers
            for value in (np.nan, np.inf, -np.inf)
        ),
        ("times", _replace("rewards", lambda x: x.astype("M8[s]")), "rewards"),
        ("wide rewards", _replace("rewards", lambda x: np.stack([x, x], 1)), "rewards"),
        ("wide flags", _replace("terminated", lambda x: np.stack([x, x], 1)), "terminated"),
        ("flags of 2", _replace("terminated", lambda x: 2 * x.astype(int)), "terminated is 2"),
        ("a scalar", _replace("actions", lambda x: np.float32(1)), "actions"),
        ("too large", _replace("rewards", lambda x: x.astype(np.float64) * 1e300), "rewards"),
    ]
    for name, change, says in changes:
        arrays = good_arrays()
        change(arrays)
        yield _info(f"plain: {name}", "bad.npz", npz(arrays), says)
    empty = {key: value[:0] for key, value in good_arrays().items()}
    yield _info("plain: no rows", "bad.npz", npz(empty), "no transitions")


def _unfit() -> Iterator[Case]:
    """Sound datasets that are not Pendulum's."""

    def drop(arrays: Arrays) -> None:
        for key in ("observations", "next_observations"):
            arrays[key] = arrays[key][:, :2]

    for name, change, says in (
        ("observations", drop, "observations of size 2"),
        ("actions", _replace("actions", lambda x: np.repeat(x, 2, 1)), "actions of size 2"),
        ("no actions", _replace("actions", lambda x: x[:, :0]), "actions"),
        ("bounds", _put("actions", 5, 2.1), "2.0999999046325684 at row 5"),
    ):
        arrays = good_arrays()
        change(arrays)
        content = {"other.npz": npz(arrays)}
        yield Case(f"unfit: {name}", fmq(data="other.npz"), says, content)
    for name, data, says in (
        ("not there", "gone.npz", "gone.npz"),
        ("a folder above", "..", "no known format"),
        ("Minari's, not there", "minari:gone/away-v0", "gone/away-v0"),
        ("of its own, none known", "auto", "Pendulum-v1"),
        ("a cloud's", "s3://bucket/data.npz", "s3:/bucket/data.npz"),
        ("null byte", "a\0b", "a"),
        ("long name", "a" * 300 + ".npz", "aaa"),
    ):
        yield Case(f"unfit: {name}", fmq(data=data), says)
    task = ("data", "convert", "data.npz", "new.npz", "--env", "can")
    yield Case("unfit: a filter key", (*task, "--filter-key", "train"), "'train'")


def _not_datasets() -> Iterator[Case]:
    sound = npz(good_arrays())
    for suffix in ("npz", "hdf5", "parquet", "txt", "columns"):
        file = f"bad.{suffix}"
        yield _info(f"empty .{suffix}", file, b"")
        yield _info(f"garbage .{suffix}", file, bytes(range(256)) * 4)
        yield _info(f"text .{suffix}", file, "observations, actions\n1, 2\n")
        yield _info(f"zeros .{suffix}", file, bytes(1000))
    yield _info("a pickle", "bad.npz", b"\x80\x04}\x94\x8c\x01a\x94K\x01s.")
    yield _info("a web page", "bad.npz", "<!doctype html><title>404 Not Found</title>")
    yield _info("Git LFS pointer", "bad.hdf5", "version https://git-lfs.github.com/spec/v1\n")
    yield _info("npy for npz", "bad.npz", _npy(good_arrays()["rewards"]))
    yield _info("npz for hdf5", "bad.hdf5", sound)
    yield _info("npz for parquet", "bad.parquet", sound)
    yield _info("magic of HDF5 only", "bad.hdf5", b"\x89HDF\r\n\x1a\n")
    yield _info("magic of Parquet only", "bad.parquet", b"PAR1PAR1")
    yield _info("magic of zip only", "bad.npz", b"PK\x05\x06" + bytes(18))


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _zip_files() -> Iterator[Case]:
    sound = npz(good_arrays())
    for share in (1, 10, 50, 90, 99):
        yield _info(f"npz cut at {share}%", "bad.npz", sound[: len(sound) * share // 100])
    for place in (3, 40, len(sound) // 2, len(sound) - 40):
        damaged = bytearray(sound)
        damaged[place : place + 30] = bytes(30)
        yield _info(f"npz zeroed at {place}", "bad.npz", bytes(damaged))
    yield _info("npz behind other bytes cut", "bad.npz", b"x" * 100 + sound[:-30])
    large = _npy(np.zeros(3, np.float32)).replace(b"(3,)", b"(3333333333333,)"[:4])
    members: dict[str, bytes] = {
        "a header that asks for much": b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 9)}".ljust(117)
        + b"\n",
        "a header of code": b"\x93NUMPY\x01\x00\x76\x00" + b"__import__('os')".ljust(117) + b"\n",
        "an endless header": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"{",
        "no array": b"text",
        "half an array": large[:-4],
    }
    for name, member in members.items():
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for key, array in good_arrays().items():
                archive.writestr(f"{key}.npy", member if key == "rewards" else _npy(array))
        yield _info(f"npz with {name}", "bad.npz", file.getvalue(), "rewards")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../escaped.npy", _npy(np.zeros(3)))
    yield _info("npz that climbs out", "bad.npz", file.getvalue())


def _hdf5_files() -> Iterator[Case]:
    arrays = good_arrays()
    d4rl = {key: arrays[key] for key in ("observations", "actions", "rewards")}
    d4rl |= {"terminals": arrays["terminated"], "timeouts": arrays["truncated"]}
    sound = hdf5(d4rl)
    for share in (2, 50, 97):
        yield _info(f"D4RL cut at {share}%", "bad.hdf5", sound[: len(sound) * share // 100])
    for key in ("observations", "actions", "rewards", "terminals"):
        rest = {name: array for name, array in d4rl.items() if name != key}
        yield _info(f"D4RL without {key}", "bad.hdf5", hdf5(rest), key if len(rest) < 4 else "")
    for key in ("observations", "actions", "rewards"):
        spoilt = {**d4rl, key: d4rl[key].astype(np.float64) * np.nan}
        yield _info(f"D4RL, NaN {key}", "bad.hdf5", hdf5(spoilt), f"{key} is nan at row 0")
    link = {**d4rl, "rewards": h5py.ExternalLink("other.hdf5", "rewards")}
    yield _info("D4RL with a link", "bad.hdf5", hdf5(link), "rewards")
    group = {**d4rl, "rewards": h5py.SoftLink("/observations/none")}
    yield _info("D4RL with a dead link", "bad.hdf5", hdf5(group))
    demo = {f"data/demo_0/{key}": arrays[key] for key in ("actions", "rewards")}
    demo |= {"data/demo_0/dones": arrays["terminated"]}
    described = {"env_args": json.dumps(_ROBOMIMIC)}
    yield _info("RoboMimic without obs", "bad.hdf5", hdf5(demo, described), "demo_0")
    yield _info("RoboMimic, nothing said", "bad.hdf5", hdf5(demo))
    yield _info("RoboMimic, args of no kind", "bad.hdf5", hdf5(demo, {"env_args": "{"}))
    yield _info("RoboMimic, no demo", "bad.hdf5", hdf5({"data/x": 1}, described))
    name = "robomimic:bad.hdf5"
    for label, value in (("none", {}), ("half", {"env_args": '{"env_name": 3}'})):
        files = {"bad.hdf5": hdf5(demo, value)}
        yield Case(f"RoboMimic as environment, args {label}", fmq(env=name), "bad.hdf5", files)


def _columns_folders() -> Iterator[Case]:
    sound = columns()

    def case(name: str, changed: Mapping[str, bytes | None], says: str) -> Case:
        kept = {**sound, **changed}
        files = {f"bad.columns/{key}": value for key, value in kept.items() if value is not None}
        return Case(f"columns: {name}", ("data", "info", "bad.columns"), says, files)

    for file in sound:
        yield case(f"no {file}", {file: None}, file)
        yield case(f"empty {file}", {file: b""}, file)
        yield case(f"cut {file}", {file: sound[file][:-5]}, file)
        flipped = bytearray(sound[file])
        flipped[-3] ^= 1
        says = "episode" if file == "episode_end.npy" else file
        yield case(f"flipped {file}", {file: bytes(flipped)}, says)
    meta = json.loads(sound["meta.json"])
    for name, changed, says in (
        ("a newer version", {**meta, "version": 99}, "version 99"),
        ("more rows", {**meta, "rows": 10**12}, "meta.json"),
        ("a list", [1], "meta.json"),
        ("another format", {"format": "other"}, "meta.json"),
    ):
        yield case(name, {"meta.json": json.dumps(changed).encode()}, says)


def _folders() -> Iterator[Case]:
    """Folders that are no dataset."""
    sound = npz(good_arrays())
    for name, files, says in (
        ("empty", {"bad/.hidden/x": ""}, "bad"),
        ("of texts", {"bad/a.txt": "a", "bad/b.txt": "b"}, "a.txt"),
        ("of npz files", {"bad/a.npz": sound, "bad/b.npz": sound}, "rllib data convert"),
        ("with a damaged Parquet file", {"bad/a.parquet": b"PAR1xxPAR1"}, "a.parquet"),
        ("of Minari's, no data", {"bad/metadata.json": "{}"}, "bad"),
        ("of Minari's, no JSON", {"bad/data/metadata.json": "{"}, "bad"),
        ("of Minari's, a list", {"bad/data/metadata.json": "[]"}, "bad"),
    ):
        yield Case(f"folder {name}", ("data", "info", "bad"), says, files)
    shards = {"bad/a.npz": sound, "bad/b.npz": sound[:-50]}
    convert = ("data", "convert", "bad")
    yield Case("folder: one shard cut", (*convert, "new.columns"), "b.npz", shards)
    yield Case("folder: into one file", (*convert, "new.npz"), "2 shards", shards)
    other = good_arrays()
    other["actions"] = np.repeat(other["actions"], 2, 1)
    mixed = {"bad/a.npz": sound, "bad/b.npz": npz(other)}
    yield Case("folder: shards of two kinds", (*convert, "new.columns"), "size 2", mixed)
