"""Conversion between formats, and its command."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rllib_fmq.cli.data_convert import convert as command
from rllib_fmq.data import load_dataset
from rllib_fmq.data.convert import convert
from rllib_fmq.data.formats.columns import load_columns
from rllib_fmq.data.formats.detect import load
from rllib_fmq.data.formats.npz import read_npz, write_npz
from rllib_fmq.data.formats.transitions_npz import write_transitions
from tests.data.formats.recordings import make_table, write_robomimic_file

pytest.importorskip("h5py")

MAZE_TASK = "pointmaze-medium-navigate-singletask-task1-v0"
OUTPUTS = ("own.npz", "own.hdf5", "own.h5", "own.columns")


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    inside=st.booleans(),
    seed=st.integers(0, 99),
    chain=st.lists(st.sampled_from(OUTPUTS), min_size=1, max_size=3),
)
@settings(max_examples=25, deadline=None)
def test_any_chain_of_conversions_keeps_every_row(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    inside: bool,
    seed: int,
    chain: list[str],
) -> None:
    folder = tmp_path_factory.mktemp("convert")
    table = make_table(lengths, seed=seed, inside=inside)
    path = write_transitions(folder / "first.npz", table)
    for number, name in enumerate(chain):
        made = convert(path, folder / str(number) / name)
        assert (made.transitions, made.episodes) == (table.num_steps, table.num_episodes)
        assert made.fingerprint == table.fingerprint
        path = made.path
        read = load_dataset(path, "E")
        for column in ("obs", "actions", "rewards", "terminated", "episode_end", "final_obs"):
            np.testing.assert_array_equal(getattr(read, column), getattr(table, column))


@pytest.mark.parametrize("name", OUTPUTS)
def test_ogbench_with_its_tasks_rewards(maze_file: Path, tmp_path: Path, name: str) -> None:
    table = load_dataset(maze_file, MAZE_TASK)
    made = convert(maze_file, tmp_path / name, env_name=MAZE_TASK)
    assert made.bytes > 1000
    assert load_dataset(made.path, "E").fingerprint == table.fingerprint
    with pytest.raises(ValueError, match="name the task"):
        convert(maze_file, tmp_path / f"2{name}")
    assert len(list(tmp_path.iterdir())) == 1


def test_shards_one_at_a_time(maze_file: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    keys = ("observations", "actions", "terminals", "qpos", "qvel")
    arrays = read_npz(maze_file, required=keys)
    for number, rows in enumerate((slice(0, 251), slice(251, 502))):
        part = {key: array[rows] for key, array in arrays.items()}
        write_npz({shards / f"maze-{number:03}.npz": part})
        write_npz({shards / f"maze-{number:03}-val.npz": part})
    seen: list[tuple[int, int, str]] = []
    made = convert(
        shards,
        tmp_path / "maze.columns",
        env_name=MAZE_TASK,
        progress=lambda *step: seen.append(step),
    )
    assert seen == [(1, 2, "maze-000.npz"), (2, 2, "maze-001.npz")]
    whole = load_dataset(maze_file, MAZE_TASK)
    table = load_columns(made.path, verify=True)
    assert (table.num_steps, table.num_episodes) == (500, 2)
    np.testing.assert_array_equal(table.obs, whole.obs[:500])
    np.testing.assert_array_equal(table.rewards, whole.rewards[:500])
    with pytest.raises(ValueError, match=r"holds 2 shards; .*NAME\.columns"):
        convert(shards, tmp_path / "maze.npz", env_name=MAZE_TASK)


def test_a_shard_is_gone_before_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = tmp_path / "shards"
    for number in range(3):
        write_transitions(shards / f"{number}.npz", make_table([5, 4], seed=number))
    read: list[tuple[weakref.ref[Any], weakref.ref[Any]]] = []

    def load_and_watch(*args: Any, **kwargs: Any) -> Any:
        assert all(table() is None and column() is None for table, column in read)
        table = load(*args, **kwargs)
        read.append((weakref.ref(table), weakref.ref(table.obs)))
        return table

    monkeypatch.setattr("rllib_fmq.data.convert.load", load_and_watch)
    assert convert(shards, tmp_path / "own.columns").transitions == 27
    assert len(read) == 3


def test_a_filter_key_selects_demonstrations(tmp_path: Path) -> None:
    path = write_robomimic_file(tmp_path / "own.hdf5", [5, 4, 3])
    made = convert(path, tmp_path / "train.npz", filter_key="train", env_name="can")
    assert (made.transitions, made.episodes) == (9, 2)
    assert load_dataset(made.path, "can").rewards.tolist().count(0.0) == 2


def test_what_is_there_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    path = write_transitions(tmp_path / "first.npz", make_table([3]))
    for name in OUTPUTS:
        out = tmp_path / name
        convert(path, out)
        with pytest.raises(FileExistsError, match=r"exists: replace it with --overwrite \(over"):
            convert(path, out)
        other = write_transitions(tmp_path / "other.npz", make_table([4]))
        assert convert(other, out, overwrite=True).transitions == 4
    with pytest.raises(ValueError, match="into itself"):
        convert(path, path, overwrite=True)
    folder = tmp_path / "mine.npz"
    folder.mkdir()
    with pytest.raises(FileExistsError, match="is a folder"):
        convert(path, folder, overwrite=True)
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        convert(path, tmp_path / "own.csv")
    with pytest.raises(FileNotFoundError, match=r"dataset not found: .*none\.npz"):
        convert(tmp_path / "none.npz", tmp_path / "x.npz")


def test_the_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    path = write_transitions(tmp_path / "first.npz", make_table([1000, 500]))
    out = tmp_path / "own.hdf5"
    done = CliRunner().invoke(app, [str(path), str(out)])
    assert done.exit_code == 0, done.output
    assert f"{out}: d4rl, 1,500 transitions in 2 episodes, 0." in done.stdout
    again = CliRunner().invoke(app, [str(path), str(out)])
    assert isinstance(again.exception, FileExistsError)
    lost = CliRunner().invoke(app, [str(tmp_path / "none.npz"), str(out)])
    assert isinstance(lost.exception, FileNotFoundError)
    # The error, which the program prints, stands alone: no bar is left before it.
    assert again.output == lost.output == ""
    assert CliRunner().invoke(app, [str(path), str(out), "--overwrite"]).exit_code == 0
