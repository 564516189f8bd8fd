"""Saved online rows: any history, any checkpoint of it, at the price of the new rows."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pyarrow.fs as pafs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_fmq.checkpointing import replay_store
from rllib_fmq.checkpointing.replay_store import ReplayStore
from tests.learner.replay_oracle import assert_same_windows, make, replay_ops, transfer

from .replays import Op, memory_store, names, new_rows, played, save

SEGMENT_ROWS, SMALL_SEGMENTS = 12, 3

flags = st.lists(st.booleans(), min_size=1, max_size=12)
steps = st.tuples(
    st.integers(0, 3),
    st.integers(1, 9),
    st.sampled_from(["open", "open", "terminated", "truncated"]),
)
saved_steps = st.tuples(steps, st.booleans())


@pytest.fixture(autouse=True, scope="module")
def small_segments() -> None:
    """Bounds that short histories reach."""
    with (
        mock.patch.object(replay_store, "SEGMENT_ROWS", SEGMENT_ROWS),
        mock.patch.object(replay_store, "SMALL_SEGMENTS", SMALL_SEGMENTS),
    ):
        yield


@pytest.mark.parametrize("mapped", [False, True])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    offline=st.lists(flags, max_size=3),
    extra=st.integers(1, 40),
    horizon=st.integers(1, 5),
    before=st.lists(saved_steps, min_size=1, max_size=20),
    pick=st.integers(0, 20),
    after=st.lists(saved_steps, max_size=8),
)
def test_a_run_goes_on_from_any_of_its_checkpoints(
    mapped: bool,
    offline: list[list[bool]],
    extra: int,
    horizon: int,
    before: list[tuple[Op, bool]],
    pick: int,
    after: list[tuple[Op, bool]],
) -> None:
    store, capacity = memory_store(), sum(map(len, offline)) + extra
    table, oracle = make(capacity, *offline, mapped=mapped)
    running, index, saves = {}, None, []
    for number, (op, saving) in enumerate(before, start=1):
        replay_ops([table], oracle, [op], running)
        if saving or number == len(before):
            index = save(store, table, index)
            saves.append((number, index))

    # The run is killed, and resumed from one of its checkpoints: other rows get the same numbers.
    done, first = saves[pick % len(saves)]
    history = [op for op, _ in before[:done]]
    expected, oracle, running = played(history, capacity, offline, mapped)
    resumed, _ = make(capacity, *offline, mapped=mapped)
    store.read(resumed, first)
    oracle.check(assert_same_windows(expected, resumed, horizon), horizon)
    index = first
    for op, saving in after:
        replay_ops([expected, resumed], oracle, [op], running)
        oracle.check(assert_same_windows(expected, resumed, horizon), horizon)
        if saving:
            index = save(store, resumed, index)
            copy, _ = make(capacity, *offline, mapped=mapped)
            store.read(copy, index)
            assert_same_windows(expected, copy, horizon)
            assert copy.counts == expected.counts

    # Neither what came later in the killed run nor in this one has changed the checkpoint.
    again, _ = make(capacity, *offline, mapped=mapped)
    store.remove_unused([first])
    store.read(again, first)
    assert_same_windows(played(history, capacity, offline, mapped)[0], again, horizon)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(extra=st.integers(1, 200), history=st.lists(saved_steps, min_size=1, max_size=60))
def test_a_checkpoint_costs_its_new_rows_and_never_more_than_a_segment_besides(
    extra: int, history: list[tuple[Op, bool]]
) -> None:
    store = memory_store()
    table, oracle = make(5 + extra, [False] * 5, mapped=True)
    running, index, saved = {}, None, 0
    for op, saving in history:
        replay_ops([table], oracle, [op], running)
        if not saving:
            continue
        known, index = index, save(store, table, index)
        held = len(table.online_numbers)
        stored = sum(s["last"] - s["first"] for s in index["segments"])
        assert new_rows(index, known) < table.num_online - saved + SEGMENT_ROWS
        assert held <= stored < held + SEGMENT_ROWS
        assert len(index["segments"]) <= held / SEGMENT_ROWS + SMALL_SEGMENTS + 1
        assert max(s["last"] - s["first"] for s in index["segments"]) <= SEGMENT_ROWS
        saved = table.num_online


def test_what_is_saved_again_without_new_rows_costs_nothing() -> None:
    store = memory_store()
    table, *_ = played([(0, 9, "open"), (1, 9, "open")], 30, [])
    first = save(store, table, None)
    assert save(store, table, first) == first


def test_bytes_of_a_checkpoint_are_a_small_part_of_those_of_a_whole_one(tmp_path: Path) -> None:
    def size(folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.iterdir())

    table, oracle = make(40_000)
    running = {}
    with mock.patch.object(replay_store, "SEGMENT_ROWS", 1_000):
        local = pafs.LocalFileSystem()
        store, before, index = ReplayStore(local, str(tmp_path / "replay")), 0, None
        for number in range(45):
            ops = [((k * 7) % 4, 50, "open" if k % 9 else "truncated") for k in range(6)]
            replay_ops([table], oracle, ops * (100 if number == 0 else 1), running)
            index = save(store, table, index)
            written, before = size(tmp_path / "replay") - before, size(tmp_path / "replay")
            if number == 0:
                whole = written
            else:
                assert written < 0.1 * whole
        ReplayStore(local, str(tmp_path / "whole")).write(table, None)
        # All that was written, merges and what they replaced included.
        assert whole < size(tmp_path / "whole") < before < 2.5 * size(tmp_path / "whole")
        store.remove_unused([index])
        assert size(tmp_path / "replay") < 1.2 * size(tmp_path / "whole")


def test_a_killed_runs_segments_are_never_taken_for_those_of_the_run_that_resumes() -> None:
    store = memory_store()
    table, *_ = played([(0, 5, "open")], 30, [])
    checkpoint = save(store, table, None)
    killed, *_ = played([(0, 5, "open"), (1, 4, "open")], 30, [])
    lost = save(store, killed, checkpoint)
    resumed, *_ = played([(0, 5, "open"), (2, 4, "truncated")], 30, [])
    index = save(store, resumed, checkpoint)
    assert names(index)[0] == names(lost)[0] and names(index)[1] != names(lost)[1]
    assert store.remove_unused([checkpoint, index]) == [names(lost)[1]]
    copy, _ = make(30)
    store.read(copy, index)
    assert_same_windows(resumed, copy, 3)


def test_rows_that_follow_later_are_joined_though_their_segment_is_written() -> None:
    store = memory_store()
    ops: list[Op] = [(0, 3, "open"), (1, 3, "open"), (0, 3, "open"), (1, 3, "open")]
    table, oracle = make(60)
    index, running = None, {}
    for op in ops * 4:
        replay_ops([table], oracle, [op], running)
        index = save(store, table, index)
    copy, _ = make(60)
    store.read(copy, index)
    oracle.check(assert_same_windows(table, copy, 4), 4)


def test_an_empty_replay_has_an_index_too() -> None:
    store = memory_store()
    table, _ = make(30, [False] * 8)
    index = save(store, table, None)
    assert index["segments"] == []
    copy, _ = make(30, [False] * 8)
    store.read(copy, index)
    assert copy.num_online == 0
    assert save(store, played([(0, 4, "open")], 30, [[False] * 8])[0], index)["segments"]


def test_segments_that_are_not_in_the_folder_are_written_again() -> None:
    here, elsewhere = memory_store(), memory_store()
    ops: list[Op] = [(0, 3, "open"), (1, 3, "open"), (0, 3, "open")]
    index = None
    for end in (1, 2):
        index = save(elsewhere, played(ops[:end], 40, [])[0], index)
    table, *_ = played(ops, 40, [])
    moved = save(here, table, index)  # the trial goes on in another folder
    copy, _ = make(40)
    here.read(copy, moved)
    assert_same_windows(table, copy, 3)


@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_segments_that_were_lost_or_cut_are_written_again(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ReplayStore(pafs.LocalFileSystem(), str(tmp_path))
    ops: list[Op] = [(0, 3, "open"), (1, 3, "open"), (0, 3, "open")]
    index = None
    for end in (1, 2):
        index = save(store, played(ops[:end], 40, [])[0], index)
    assert caplog.text == ""
    kept, bad = names(index)
    if damage == "lost":
        (tmp_path / bad).unlink()
    else:
        (tmp_path / bad).write_bytes((tmp_path / bad).read_bytes()[:-1])
    table, *_ = played(ops, 40, [])
    mended = save(store, table, index)
    # All from there on are new.
    assert names(mended)[0] == kept and bad not in names(mended) and new_rows(mended, index) == 6
    (line,) = caplog.messages
    assert f"{tmp_path}/{bad}, which earlier checkpoints need, is missing or cut" in line
    copy, _ = make(40)
    store.read(copy, mended)
    assert_same_windows(table, copy, 3)


def test_an_index_of_a_later_time_or_of_other_data_is_not_relied_upon() -> None:
    store = memory_store()
    later, *_ = played([(0, 9, "open")], 40, [])
    other, *_ = played([(0, 9, "open")], 48, [[False] * 8])
    table, *_ = played([(0, 5, "open")], 40, [])
    for known in (save(store, later, None), save(store, other, None)):
        assert new_rows(save(store, table, known), known) == 5


def test_a_larger_ring_takes_the_rows_of_one_that_was_not_full() -> None:
    store = memory_store()
    table, oracle, running = played([(0, 9, "open"), (1, 9, "open")], 20, [])
    index = save(store, table, None)
    larger, _ = make(500)
    store.read(larger, index)
    oracle.capacity = 500
    replay_ops([larger], oracle, [(0, 9, "open")], running)
    assert new_rows(save(store, larger, index), index) < 9 + SEGMENT_ROWS
    mapped, _ = make(500)
    transfer(larger, mapped)
    oracle.check(mapped.sample(300, 4), 4)
