"""Training on rows that stay on disk: the same as in memory, but for the memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow.fs import LocalFileSystem

from rllib_fmq.checkpointing.replay_store import ReplayStore
from rllib_fmq.data import TransitionTable, load_dataset
from rllib_fmq.data.formats.columns import load_columns, write_columns
from rllib_fmq.learner import FlowMapLearner, ReplayTable
from rllib_fmq.learner.mapped_rows import MappedRows

from .conftest import WALK, LearnerFactory
from .replay_oracle import generator


@pytest.fixture(scope="module")
def walk_columns(walk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The walk dataset as mapped columns."""
    folder = tmp_path_factory.mktemp("walk_columns") / "walk.columns"
    return write_columns(folder, [load_dataset(walk, WALK)], source="walk")


def add_steps(learner: FlowMapLearner, number: int, steps: int = 6) -> None:
    random = np.random.default_rng(number)
    learner.replay.add_fragment(
        f"episode-{number}",
        random.standard_normal((steps + 1, 3)),
        random.uniform(-1, 1, (steps, 2)),
        random.standard_normal(steps),
        terminated=bool(number % 2),
        done=True,
    )


def weights(learner: FlowMapLearner) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in learner.flow_module.named_parameters()}


def train(learner: FlowMapLearner, first: int = 0) -> dict[str, torch.Tensor]:
    learner.update(num_updates=3)
    for number in range(first, first + 4):
        add_steps(learner, number)
    learner.update(num_updates=3)
    return weights(learner)


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_training_is_the_same_as_in_memory(
    make_learner: LearnerFactory, walk: Path, walk_columns: Path
) -> None:
    in_memory, on_disk = make_learner(dataset=walk), make_learner(dataset=walk_columns)
    assert in_memory.replay.offline is None and on_disk.replay.offline is not None
    assert on_disk.dataset_fingerprint == in_memory.dataset_fingerprint
    assert on_disk.replay.num_offline == in_memory.replay.num_offline > 100
    assert_same(train(on_disk), train(in_memory))
    assert len(on_disk.replay) == len(in_memory.replay) == on_disk.replay.num_offline + 24


def test_actions_are_scaled_as_they_are_drawn(
    make_learner: LearnerFactory, walk_columns: Path
) -> None:
    raw = load_columns(walk_columns)
    assert raw.actions.max() > 1.5
    batch = make_learner(dataset=walk_columns).replay.sample(2000, 2, generator())
    assert 0.9 < batch.actions.abs().max() <= 1.0


def test_a_checkpoint_holds_online_rows_only_and_goes_on_exactly(
    make_learner: LearnerFactory, walk_columns: Path, tmp_path: Path
) -> None:
    learner = make_learner(dataset=walk_columns)
    train(learner)
    store = ReplayStore(LocalFileSystem(), str(tmp_path / "replay"))
    state, index = learner.get_state(), learner.save_replay(store, None)
    (segment,) = index["segments"]
    assert segment["last"] == learner.replay.num_online == 24
    again = make_learner(dataset=walk_columns, seed=5)
    again.set_state(state)
    again.load_replay(store, index)
    assert_same(train(again, first=10), train(learner, first=10))


def test_the_capacity_counts_online_rows_and_no_offline_row_is_lost(
    make_learner: LearnerFactory, walk_columns: Path
) -> None:
    learner = make_learner(dataset=walk_columns, replay_capacity=10)
    replay = learner.replay
    assert replay.capacity == 10
    for number in range(9):
        add_steps(learner, number)
    assert (len(replay), replay.num_online) == (replay.num_offline + 10, 54)
    drawn = replay.sample(60 * len(replay), 2, generator()).obs.numpy()
    assert {row.tobytes() for row in load_columns(walk_columns).obs} <= {r.tobytes() for r in drawn}


def test_rows_are_drawn_in_the_proportion_of_both_parts() -> None:
    num = 30
    end = np.arange(num) % 10 == 9
    table = TransitionTable.from_columns(
        obs=np.zeros((num, 1)),
        actions=np.zeros((num, 1)),
        rewards=np.zeros(num),
        terminated=np.zeros(num),
        episode_end=end,
        final_obs=np.zeros((3, 1)),
        source="zeros",
    )
    replay = ReplayTable(50, 1, 1, offline=MappedRows(table))
    replay.add_fragment("a", np.ones((11, 1)), np.ones((10, 1)), np.ones(10), False, True)
    share = replay.sample(20_000, 1, generator()).obs.mean().item()
    assert share == pytest.approx(10 / 40, abs=0.02)


def test_the_links_of_a_hundred_million_rows_need_no_memory_of_their_own(tmp_path: Path) -> None:
    # As many rows as fit here in a moment; what is kept must follow the episodes, not the rows.
    num, episode = 2_000_000, 1000
    end = np.arange(num) % episode == episode - 1
    zeros = np.zeros((num, 1), np.float32)
    table = TransitionTable(
        obs=zeros,
        actions=zeros,
        rewards=zeros[:, 0],
        terminated=np.zeros(num, bool),
        episode_end=end,
        final_obs=np.zeros((num // episode, 1), np.float32),
        source="zeros",
        fingerprint="",
    )
    rows = MappedRows(table)
    assert rows.num_bytes == 4 * num // episode
    assert ReplayTable(10, 1, 1, offline=rows).num_bytes < rows.num_bytes + 1000


@pytest.mark.slow
def test_training_on_columns_needs_a_small_part_of_their_size(tmp_path: Path) -> None:
    mapped_training = pytest.importorskip("benchmarks.mapped_training")
    if not Path("/proc/self/status").is_file():
        pytest.skip("memory is read from /proc")
    rows = 1_500_000

    def shards() -> Iterator[TransitionTable]:
        yield from mapped_training.shards(rows)

    folder = write_columns(tmp_path / "random.columns", shards(), source="random")
    figures = mapped_training.measure_apart(folder, updates=60)
    assert figures["dataset"] > 240
    assert figures["anonymous"] < 40, figures
