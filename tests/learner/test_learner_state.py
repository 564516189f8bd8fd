"""A learner's state and its saved replay: it goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow.fs import LocalFileSystem

from rllib_fmq.checkpointing.replay_store import ReplayStore
from rllib_fmq.learner import FlowMapLearner

from .conftest import write_walk
from .replay_oracle import assert_same_windows
from .test_flow_map_learner import equal, fragments, parameters
from .version_1 import version_1_state

Make = Callable[..., FlowMapLearner]


@pytest.fixture
def store(tmp_path: Path) -> ReplayStore:
    return ReplayStore(LocalFileSystem(), str(tmp_path / "replay"))


def trained(make_learner: Make, online: bool = True, **training: Any) -> FlowMapLearner:
    learner = make_learner(**training)
    learner.update(num_updates=10)
    if online:
        learner.begin_online()
        learner.update(num_updates=5, fragments=[fragments(0), fragments(1)])
    return learner


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("through_files", [False, True])
def test_restored_learners_go_on_bit_identically(
    make_learner: Make, store: ReplayStore, tmp_path: Path, online: bool, through_files: bool
) -> None:
    learner = trained(make_learner, online)
    restored = make_learner(seed=7)
    if through_files:
        learner.save_to_path(str(tmp_path / "learner"))
        restored.restore_from_path(str(tmp_path / "learner"))
    else:
        restored.set_state(learner.get_state())
    restored.load_replay(store, learner.save_replay(store, None))
    assert equal(parameters(restored), parameters(learner))
    assert (restored.num_updates, restored.online) == (learner.num_updates, online)
    for one in (learner, restored):
        one.update(num_updates=10, fragments=[fragments(2)] if online else [])
    assert equal(parameters(restored), parameters(learner))
    assert len(restored.replay) == len(learner.replay)


def test_a_learner_may_go_back_to_its_own_checkpoint(
    make_learner: Make, store: ReplayStore, tmp_path: Path
) -> None:
    learner = trained(make_learner)
    path = str(tmp_path / "learner")
    learner.save_to_path(path)
    index = learner.save_replay(store, None)
    learner.update(num_updates=5, fragments=[fragments(2)])
    first = parameters(learner)
    # Beyond the ring's end, so that offline rows are gone.
    learner.update(fragments=[fragments(k, 10) for k in range(20)])
    learner.restore_from_path(path)
    learner.load_replay(store, index)
    learner.update(num_updates=5, fragments=[fragments(2)])
    assert equal(parameters(learner), first)


def test_the_replays_rows_are_no_part_of_the_state(make_learner: Make) -> None:
    state = trained(make_learner).get_state()["flow_map_learner"]
    assert set(state) == {
        "num_updates",
        "online",
        "jumps_trained",
        "generator",
        "dataset_fingerprint",
    }


@pytest.mark.parametrize("used", [False, True])
def test_a_state_of_version_1_brings_its_replay(make_learner: Make, used: bool) -> None:
    learner = trained(make_learner)
    (unfinished,) = fragments(5, count=1)
    unfinished.is_truncated = unfinished.is_terminated = False
    learner.store([unfinished])
    state = learner.get_state()
    state["flow_map_learner"]["replay"] = version_1_state(learner.replay)
    restored = trained(make_learner, seed=3) if used else make_learner(seed=3)
    restored.set_state(state | {"weights_seq_no": 0})  # RLlib ignores weights that are not newer
    assert restored.replay.num_online == 35
    assert_same_windows(learner.replay, restored.replay, 4)
    # Such a checkpoint did not tell which episodes go on.
    assert (len(learner.replay.counts.open), restored.replay.counts.open) == (1, {})
    for one in (learner, restored):
        one.update(num_updates=5, fragments=[fragments(2)])
    assert equal(parameters(restored), parameters(learner))


def test_unfinished_episodes_go_on_if_asked(make_learner: Make, store: ReplayStore) -> None:
    learner = make_learner()
    parts = [fragments(seed, count=1)[0] for seed in range(3)]
    for episode in parts:
        episode.is_truncated = episode.is_terminated = False
    learner.store(parts)
    index = learner.save_replay(store, None)
    restored = make_learner()
    restored.load_replay(store, index)
    assert restored.keep_open_episodes([parts[0].id_, parts[2].id_]) == 1
    assert restored.keep_open_episodes([parts[0].id_, parts[2].id_]) == 0
    learner.keep_open_episodes([parts[0].id_, parts[2].id_])
    for one in (learner, restored):
        one.store(parts)
        assert len(list(one.replay.online_parts(15, 100))) == 1
    assert_same_windows(learner.replay, restored.replay, 8)
    (later,) = restored.replay.online_parts(15, 100)
    assert later.joins.tolist() == [[4, 15], [14, 25]]


def test_another_dataset_is_refused(make_learner: Make, tmp_path: Path) -> None:
    state = make_learner().get_state()
    other = make_learner(dataset=write_walk(tmp_path / "other.npz", seed=1))
    with pytest.raises(ValueError, match="another dataset"):
        other.set_state(state)


def test_the_stream_of_noise_goes_on(make_learner: Make) -> None:
    learner, other = make_learner(), make_learner(seed=9)
    learner.update(num_updates=2)
    state = learner.generator_state().copy()
    expected = torch.rand(5, generator=learner.generator)
    other.set_generator_state(state)
    assert torch.equal(torch.rand(5, generator=other.generator), expected)


def test_a_stream_of_another_device_is_replaced_by_a_new_one(make_learner: Make) -> None:
    learner = make_learner()
    learner.num_updates = 4
    before = torch.rand(5, generator=learner.generator)
    learner.set_generator_state(np.zeros(16, np.uint8))  # CUDA's has 16 bytes
    first = torch.rand(5, generator=learner.generator)
    learner._seed_generator(4)
    assert torch.equal(torch.rand(5, generator=learner.generator), first)
    assert not torch.equal(first, before)
