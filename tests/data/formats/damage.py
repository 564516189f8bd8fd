"""Damaged variants of a dataset in every format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rllib_fmq.data.formats.arrays import SYNONYMS, to_arrays
from rllib_fmq.data.formats.d4rl_hdf5 import write_d4rl
from rllib_fmq.data.formats.detect import load
from rllib_fmq.data.formats.npz import write_npz
from rllib_fmq.data.formats.transitions_npz import write_transitions
from tests.data.formats import recordings
from tests.data.formats.damage_columns import columns_damage
from tests.data.formats.damage_common import (
    LENGTHS,
    Variant,
    byte_damage,
    changed,
    ends,
    object_array,
)
from tests.data.formats.damage_rllib import rllib_damage, rows_damage
from tests.data.formats.recordings import make_table

MAZE_TASK = "pointmaze-medium-navigate-singletask-task1-v0"


def arrays_damage(folder: Path, canary: Path) -> Iterator[Variant]:
    """Wrong contents in the two formats of named arrays, plain npz and D4RL's HDF5."""
    table = make_table(LENGTHS)
    good = to_arrays(table)
    rows = table.num_steps
    changes: list[tuple[str, dict[str, Any], str, bool]] = [
        *((f"no {key}", {key: None}, key.removeprefix("next_"), False) for key in good),
        ("flat observations", {"observations": good["observations"][:, 0]}, "observations", False),
        ("deep actions", {"actions": good["actions"][:, :, None]}, r"actions has shape", False),
        ("short rewards", {"rewards": good["rewards"][:-1]}, r"rewards has shape", False),
        ("wide rewards", {"rewards": good["actions"]}, r"rewards has shape", False),
        ("texts", {"actions": np.full((rows, 2), b"1.0")}, "actions", False),
        ("complex", {"actions": good["actions"] + 1j}, "actions", False),
        ("odd flags", {"terminated": np.arange(rows)}, r"terminated is 2 at row 2", False),
        ("no ends", {k: good[k] & False for k in ("terminated", "truncated")}, r"\[11\]", False),
        ("no last end", {"truncated": ends_but_last(good["truncated"])}, "", True),
        ("nothing", {key: value[:0] for key, value in good.items()}, "no transitions", False),
    ]
    for key in ("observations", "actions", "rewards", "next_observations"):
        for value in (np.nan, np.inf, -np.inf):
            array = good[key].copy()
            array[13] = value  # the first row of the third episode
            says = rf"{key} is -?(nan|inf) at row 13"
            changes.append((f"{value} {key}", {key: array}, says, False))
    outside = good["actions"].copy()
    outside[9, 1] = 3.0
    changes.append(
        ("actions outside", {"actions": outside}, r"action 3\.0 at row 9 \(.*\), entry 1", False)
    )
    same_npz = write_transitions(folder / "same.npz", table)
    same_hdf5 = write_d4rl(folder / "same.hdf5", table)
    for label, change, says, readable in changes:
        arrays = {k: v for k, v in {**good, **change}.items() if v is not None}
        path = folder / f"plain {label}.npz"
        write_npz({path: arrays})
        yield Variant(path.name, path, same_npz if readable else None, says)
        path = folder / f"d4rl {label}.hdf5"
        theirs = {ours: name for name, ours in SYNONYMS.items()}
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[theirs.get(name, name)] = array
        if label not in ("no truncated", "no next_observations"):  # D4RL's need neither
            says = "terminals" if label == "no terminated" else says.replace("nated is", "nals is")
            yield Variant(path.name, path, same_hdf5 if readable else None, says)
    for key in good:
        path = folder / f"plain objects {key}.npz"
        np.savez(path, allow_pickle=True, **{**good, key: object_array(canary, rows)})
        yield Variant(path.name, path, says=rf"'{key}': .*pickled objects")


def ends_but_last(flags: np.ndarray) -> np.ndarray:
    flags = flags.copy()
    flags[-1] = False
    return flags


def ogbench_damage(good: Path, folder: Path, canary: Path) -> Iterator[Variant]:
    with np.load(good) as archive:
        arrays = {key: archive[key] for key in ("observations", "actions", "terminals", "qpos")}
    rows = len(arrays["observations"])
    late = {key: arrays[key].copy() for key in ("observations", "actions", "qpos")}
    for array in late.values():
        array[44, 1] = np.inf  # in the second trajectory
    shorter = folder / "ogbench shorter.npz"
    marked = {key: value[:40].copy() for key, value in arrays.items()}
    marked["terminals"][-1] = True
    write_npz({shorter: marked})
    bad = arrays["observations"].copy()
    bad[5] = np.nan
    far = arrays["actions"].copy()
    far[7, 0] = -2.0
    changes: list[tuple[str, dict[str, Any], str, Path | None]] = [
        *((f"no {key}", {key: None}, key, None) for key in arrays),
        ("nan", {"observations": bad}, "observations is nan at row 5, entry 0", None),
        *(
            (f"late {key}", {key: array}, f"{key} is inf at row 44, entry 1", None)
            for key, array in late.items()
        ),
        ("actions outside", {"actions": far}, r"at row 7 \(.*step 7\), entry 0", None),
        ("short", {"actions": arrays["actions"][:-2]}, "actions has shape", None),
        ("scalar", {"terminals": np.float32(1)}, "terminals has shape", None),
        ("qpos of others", {"qpos": np.zeros((rows, 21))}, "qpos has shape", None),
        ("texts", {"observations": np.full((rows, 2), b"x")}, "observations", None),
        ("objects", {"actions": object_array(canary, rows)}, "pickled objects", None),
        ("cut", {key: value[:40] for key, value in arrays.items()}, "", shorter),
    ]
    for label, change, says, same in changes:
        path = folder / f"ogbench {label}.npz"
        kept = {k: v for k, v in {**arrays, **change}.items() if v is not None}
        np.savez(path, allow_pickle=True, **kept)
        yield Variant(path.name, path, same, says)


def hdf5_damage(
    good: Path, folder: Path, changes: list[tuple[str, Callable[[Any], Any], str]], part: str = ""
) -> Iterator[Variant]:
    """Copies of a file, or of a folder with one, that a function changes through h5py."""
    for label, change, says in changes:
        path = folder / f"{good.stem} {label}{good.suffix}"
        (shutil.copytree if part else shutil.copy)(good, path)
        with h5py.File(path / part if part else path, "r+") as file:
            change(file)
        yield Variant(path.name, path, says=says)


def replaced(key: str, change: Callable[[np.ndarray], Any]) -> Callable[[Any], None]:
    def apply(file: Any) -> None:
        values = change(file[key][()])
        del file[key]
        file[key] = values

    return apply


def removed(key: str) -> Callable[[Any], None]:
    def apply(file: Any) -> None:
        del file[key]

    return apply


def robomimic_damage(good: Path, folder: Path) -> Iterator[Variant]:
    def linked(file: Any) -> None:
        del file["data/demo_1/actions"]
        file["data/demo_1/actions"] = h5py.ExternalLink("elsewhere.hdf5", "actions")

    changes = [
        ("no actions", removed("data/demo_1/actions"), "demo_1.*actions"),
        ("no object", removed("data/demo_2/obs/object"), "demo_2.*object"),
        ("no obs", removed("data/demo_0/obs"), "demo_0.*obs"),
        ("no rewards", removed("data/demo_0/rewards"), "demo_0.*rewards"),
        ("short", replaced("data/demo_0/rewards", lambda x: x[:-1]), "demo_0.*rewards"),
        ("flat", replaced("data/demo_2/actions", lambda x: x[:, 0]), "actions of demo_2"),
        ("texts", replaced("data/demo_2/actions", lambda x: x.astype("S9")), "demo_2.*actions"),
        ("nan", replaced("data/demo_0/obs/object", changed((3, 2), np.nan)), "row 3"),
        ("late", replaced("data/demo_2/next_obs/object", changed((6, 1), np.nan)), "demo_2.*row 6"),
        ("inf", replaced("data/demo_0/actions", changed((4, 0), np.inf)), "row 4"),
        ("outside", replaced("data/demo_0/actions", changed((4, 1), 7.0)), "row 4, entry 1"),
        ("link", linked, "demo_1.*actions"),
        ("no args", lambda file: file["data"].attrs.__delitem__("env_args"), ""),
        ("args", lambda file: file["data"].attrs.__setitem__("env_args", "{"), ""),
        ("no demos", removed("data"), ""),
    ]
    yield from hdf5_damage(good, folder, changes)
    path = folder / "robomimic lost demo.hdf5"
    shutil.copy(good, path)
    with h5py.File(path, "r+") as file:
        del file["data/demo_1"]
    yield Variant(path.name, path, says="demo_1", filter_key="train")
    yield Variant("robomimic: unknown filter key", good, says="train", filter_key="best")


def minari_damage(good: Path, folder: Path) -> Iterator[Variant]:
    def linked(file: Any) -> None:
        del file["episode_1"]
        file["episode_1"] = h5py.ExternalLink(str(good / part), "episode_2")

    part = "data/main_data.hdf5"
    changes = [
        ("no actions", removed("episode_1/actions"), "actions"),
        ("no episode", removed("episode_2"), "episode_2"),
        ("short", replaced("episode_0/rewards", lambda x: x[:-1]), "episode 0"),
        ("flat", replaced("episode_2/actions", lambda x: x[:, 0]), "episode 2: actions"),
        ("double", replaced("episode_2/actions", lambda x: x.astype("f8")), "episode 2: actions"),
        ("texts", replaced("episode_2/actions", lambda x: x.astype("S9")), "episode_2/actions"),
        ("nan", replaced("episode_0/observations", changed((3, 2), np.nan)), "row 3, entry 2"),
        (
            "last",
            replaced("episode_3/observations", changed((7, 0), np.nan)),
            "episode 3: observations is nan at row 7, entry 0",
        ),
        ("inf", replaced("episode_0/rewards", changed(4, np.inf)), "episode 0: .* row 4"),
        (
            "late",
            replaced("episode_2/actions", changed((3, 1), -np.inf)),
            "episode 2: actions is -inf at row 3, entry 1",
        ),
        (
            "outside",
            replaced("episode_2/actions", changed((4, 1), 7.0)),
            r"episode 2, step 4\), entry 1",
        ),
        ("link", linked, "'episode_1' is a link to another file"),
        ("early", replaced("episode_0/truncations", changed(4, True)), "episode 0.*step 4"),
    ]
    yield from hdf5_damage(good, folder, changes, part)
    for key, value in [
        ("total_steps", 3), ("total_episodes", 9), ("data_format", "csv"), ("action_space", None),
        ("observation_space", json.dumps({"type": "Discrete", "n": 3, "start": 0})),
        ("dataset_id", 4), ("minari_version", "9.9"),
    ]:  # fmt: skip
        path = folder / f"minari {key}"
        shutil.copytree(good, path)
        metadata = path / "data" / "metadata.json"
        metadata.write_text(json.dumps({**json.loads(metadata.read_text()), key: value}))
        yield Variant(path.name, path)


def variants(folder: Path, maze: Path, minari_root: Path, canary: Path) -> Iterator[Variant]:
    """All of them, written to a folder."""
    table = make_table(LENGTHS)
    with np.load(maze) as archive:
        keys = ("observations", "actions", "terminals", "qpos", "qvel")
        arrays = {key: archive[key][:60].copy() for key in keys}
    arrays["terminals"][[29, 59]] = True
    ogbench = folder / "ogbench.npz"
    write_npz({ogbench: arrays})
    yield from byte_damage(ogbench, folder, ends(80, 500, 10))
    yield from ogbench_damage(ogbench, folder, canary)

    plain = write_transitions(folder / "plain.npz", make_table(LENGTHS, inside=True))
    yield from byte_damage(plain, folder, ends(80, 700, 20))
    stored = folder / "stored.npz"
    np.savez(stored, allow_pickle=False, **to_arrays(table))
    yield from byte_damage(stored, folder, ends(200, 500, 30))
    yield from arrays_damage(folder, canary)

    yield from byte_damage(write_d4rl(folder / "d4rl.hdf5", table), folder, ends(3000, 1000, 40))
    robomimic = recordings.write_robomimic_file(
        folder / "robomimic.hdf5", LENGTHS[:1] + LENGTHS[2:], compression="gzip"
    )
    yield from byte_damage(robomimic, folder, ends(1500, 0, 50))
    yield from robomimic_damage(robomimic, folder)

    recordings.write_minari(table, "tests/damaged-v0")
    minari = minari_root / "tests" / "damaged-v0"
    yield from byte_damage(minari, folder, ends(1500, 0, 50), "data/main_data.hdf5")
    yield from byte_damage(minari, folder, ends(1500, 0, 40), "data/metadata.json")
    yield from minari_damage(minari, folder)
    yield from rllib_damage(folder, canary)
    yield from rows_damage(folder)
    yield from columns_damage(folder, canary)


def table_of(path: Path) -> str:
    """Fingerprint of a sound dataset."""
    return load(path, MAZE_TASK if path.stem.startswith("ogbench") else None).fingerprint
