"""Columns on disk: what is written is read, mapped and unchanged; damage is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_fmq.data import TransitionTable
from rllib_fmq.data.formats.columns import is_columns, load_columns, write_columns

OBS_DIM, ACTION_DIM = 3, 2


def make_table(lengths: list[int], seed: int = 0, obs_dim: int = OBS_DIM) -> TransitionTable:
    random = np.random.default_rng(seed)
    num = sum(lengths)
    episode_end = np.zeros(num, bool)
    episode_end[np.cumsum(lengths) - 1] = True
    return TransitionTable.from_columns(
        obs=random.normal(size=(num, obs_dim)),
        actions=random.uniform(-1, 1, size=(num, ACTION_DIM)),
        rewards=random.normal(size=num),
        terminated=random.random(num) < 0.3,
        episode_end=episode_end,
        final_obs=random.normal(size=(len(lengths), obs_dim)),
        source=f"shard {seed}",
    )


def joined(tables: list[TransitionTable]) -> TransitionTable:
    parts = [table.columns() for table in tables]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return TransitionTable.from_columns(**columns, source="joined")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shards = [make_table([4, 1, 7]), make_table([5, 5], seed=1)]
    return write_columns(tmp_path / "data" / "walk.columns", shards, source="two shards")


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(shards=st.lists(lengths, min_size=1, max_size=3))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]]) -> None:
    tables = [make_table(shard, seed) for seed, shard in enumerate(shards)]
    path = tmp_path_factory.mktemp("columns") / "data.columns"
    written = load_columns(write_columns(path, tables, source="here"), verify=True)
    expected = joined(tables)
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(getattr(written, name), column, err_msg=name)
        assert getattr(written, name).dtype == column.dtype
    # It is the dataset that a single table in memory would be.
    assert written.fingerprint == expected.fingerprint
    assert (written.num_steps, written.num_episodes) == (
        sum(map(sum, shards)),
        sum(map(len, shards)),
    )


def test_the_columns_are_read_only_maps(folder: Path) -> None:
    table = load_columns(folder)
    assert table.mapped and not make_table([3]).mapped
    for column in table.columns().values():
        assert isinstance(column, np.memmap) and not column.flags.writeable
    assert str(folder) in table.source and "two shards" in table.source


def test_what_meta_tells(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    assert (meta["rows"], meta["episodes"], meta["obs_dim"], meta["action_dim"]) == (22, 5, 3, 2)
    assert set(meta["files"]) == {path.name for path in folder.glob("*.npy")}
    assert all(len(file["sha256"]) == 64 for file in meta["files"].values())


def test_tables_are_taken_one_at_a_time(tmp_path: Path) -> None:
    alive: list[int] = []

    def shards() -> Iterator[TransitionTable]:
        for seed in range(4):
            table = make_table([50], seed)
            on_disk = sum(p.stat().st_size for p in tmp_path.glob("**/obs.npy"))
            alive.append(on_disk)
            yield table

    write_columns(tmp_path / "x.columns", shards(), source="x")
    assert alive == sorted(alive) and alive[-1] > alive[1] > 0


def test_is_columns(folder: Path, tmp_path: Path) -> None:
    assert is_columns(folder)
    renamed = folder.rename(tmp_path / "another-name")
    assert is_columns(renamed)
    assert not is_columns(tmp_path)
    assert not is_columns(renamed / "obs.npy")
    assert not is_columns(tmp_path / "nothing.columns")


# --- Writing all or nothing ------------------------------------------------------------------


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    def shards() -> Iterator[TransitionTable]:
        yield make_table([3])
        raise RuntimeError("the second shard is damaged")

    with pytest.raises(RuntimeError, match="second shard"):
        write_columns(tmp_path / "x.columns", shards(), source="x")
    assert list(tmp_path.iterdir()) == []


def test_replaces_only_when_asked_and_only_its_own_kind(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match=r"walk\.columns exists"):
        write_columns(folder, [make_table([3])], source="new")
    assert load_columns(folder).num_steps == 22
    with pytest.raises(ValueError, match="no table"):
        write_columns(folder, [], source="new", overwrite=True)
    assert load_columns(folder, verify=True).num_steps == 22
    write_columns(folder, [make_table([3])], source="new", overwrite=True)
    assert load_columns(folder, verify=True).num_steps == 3
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]

    (tmp_path / "thesis.columns").write_text("not ours")
    with pytest.raises(FileExistsError, match="no folder of columns"):
        write_columns(tmp_path / "thesis.columns", [make_table([3])], source="x", overwrite=True)


def test_a_dataset_may_be_rewritten_from_itself(folder: Path) -> None:
    before = load_columns(folder).fingerprint
    write_columns(folder, [load_columns(folder)], source="itself", overwrite=True)
    assert load_columns(folder, verify=True).fingerprint == before


def test_shards_of_other_sizes_are_refused(tmp_path: Path) -> None:
    shards = [make_table([3]), make_table([3], seed=1, obs_dim=4)]
    with pytest.raises(ValueError, match="shard 1 has observations of size 4"):
        write_columns(tmp_path / "x.columns", shards, source="x")


def test_the_name_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ending in \.columns"):
        write_columns(tmp_path / "x.npz", [make_table([3])], source="x")


# --- Damage ----------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def shape_in_header(path: Path) -> None:
    np.save(path, np.load(path).ravel()[None])


@pytest.mark.parametrize("name", ["obs", "actions", "rewards", "terminated", "final_obs"])
@pytest.mark.parametrize("damage", [truncate, empty, grow, shape_in_header])
def test_a_file_that_is_not_as_written_is_refused_at_once(
    folder: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(folder / f"{name}.npy")
    with pytest.raises(ValueError, match=rf"cannot read dataset file .*{name}\.npy: it") as error:
        load_columns(folder)
    assert "\n" not in str(error.value)


def test_a_type_in_the_header_is_checked(folder: Path) -> None:
    path = folder / "rewards.npy"
    path.write_bytes(path.read_bytes().replace(b"'<f4'", b"'<i4'"))
    with pytest.raises(ValueError, match=r"rewards\.npy: it holds int32 .* expected float32"):
        load_columns(folder)


def test_pickled_objects_are_refused(folder: Path) -> None:
    path = folder / "rewards.npy"
    path.write_bytes(path.read_bytes().replace(b"'<f4'", b"'|O8'"))
    with pytest.raises(ValueError, match=r"rewards\.npy"):
        load_columns(folder)


def test_an_episode_without_end_is_refused(folder: Path) -> None:
    path = folder / "episode_end.npy"
    content = bytearray(path.read_bytes())
    content[-1] = 0
    path.write_bytes(content)
    with pytest.raises(ValueError, match="the last row must end an episode"):
        load_columns(folder)


@pytest.mark.parametrize("name", ["obs", "actions", "rewards", "terminated", "final_obs"])
def test_flipped_bits_are_found_on_request(folder: Path, name: str) -> None:
    path = folder / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    load_columns(folder)
    with pytest.raises(ValueError, match=rf"{name}\.npy: its SHA-256"):
        load_columns(folder, verify=True)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "actions.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks actions\.npy"):
        load_columns(folder)
    (folder / "meta.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no meta\.json"):
        load_columns(folder)
    with pytest.raises(FileNotFoundError, match="folder not found"):
        load_columns(folder.parent / "other.columns")


@pytest.mark.parametrize("step", range(0, 1100, 60))
def test_any_change_of_meta_is_found(folder: Path, step: int) -> None:
    path = folder / "meta.json"
    content = bytearray(path.read_bytes())
    content[step] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"meta\.json"):
        load_columns(folder)


def test_a_later_version_is_not_guessed_at(folder: Path) -> None:
    path = folder / "meta.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ValueError, match=r"version 2 of the format.*rllib data convert"):
        load_columns(folder)
