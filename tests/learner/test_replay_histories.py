"""Any history of fragments, against a plain list of episodes, with offline rows in both places."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_fmq.learner.online_rows import from_version_1

from .replay_oracle import Episode, assert_same_windows, generator, make, replay_ops, transfer
from .version_1 import version_1_state

flags = st.lists(st.booleans(), min_size=1, max_size=12)
steps = st.tuples(
    st.integers(0, 3),  # environment
    st.integers(1, 9),  # length
    st.sampled_from(["open", "open", "terminated", "truncated"]),
)
ops = st.lists(steps, max_size=25)


def capacity_for(offline: list[list[bool]], extra: int, mapped: bool) -> int:
    """At least one row, and at least one for online steps where the offline ones stay."""
    rows = sum(map(len, offline))
    return max(1, rows + (max(1, extra) if mapped else extra))


@pytest.mark.parametrize("mapped", [False, True])
@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    offline=st.lists(flags, max_size=4),
    extra=st.integers(0, 30),
    horizon=st.integers(1, 6),
    history=ops,
)
def test_every_window_is_the_oracles(
    mapped: bool,
    offline: list[list[bool]],
    extra: int,
    horizon: int,
    history: list[tuple[int, int, str]],
) -> None:
    # Capacities from 1 to well above what is written: wrap-around, offline rows overwritten,
    # and episodes longer than the table all occur.
    table, oracle = make(capacity_for(offline, extra, mapped), *offline, mapped=mapped)
    noise = generator()

    def check() -> None:
        assert len(table) == len(oracle.kept())
        oracle.check(table.sample(8, horizon, noise), horizon)

    replay_ops([table], oracle, history, {}, check)
    if len(table):
        drawn = oracle.check(table.sample(20 * len(table), horizon, noise), horizon)
        assert len(drawn) > 0.99 * len(table)


@pytest.mark.parametrize("version_1", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    offline=st.lists(flags, max_size=3),
    extra=st.integers(1, 30),
    horizon=st.integers(1, 5),
    before=st.lists(steps, min_size=1, max_size=15),
    after=ops,
)
def test_a_restored_replay_draws_the_same_windows(
    mapped: bool,
    version_1: bool,
    offline: list[list[bool]],
    extra: int,
    horizon: int,
    before: list[tuple[int, int, str]],
    after: list[tuple[int, int, str]],
) -> None:
    capacity = capacity_for(offline, extra, mapped)
    table, oracle = make(capacity, *offline, mapped=mapped)
    running: dict[int, Episode] = {}
    replay_ops([table], oracle, before, running)
    # Offline rows are never saved; of the online ones, those that were kept are.
    online = len(oracle.rows) - sum(map(len, offline))
    assert len(table.online_numbers) == min(online, table.capacity)
    copy, _ = make(capacity, *offline, mapped=mapped)
    if version_1:
        counts, rows = from_version_1(version_1_state(table))
        copy.restore(counts, [rows])
    else:
        transfer(table, copy)

    def same() -> None:
        oracle.check(assert_same_windows(table, copy, horizon), horizon)

    same()
    replay_ops([table, copy], oracle, after, running, same)
    assert (copy.num_online, len(copy)) == (table.num_online, len(table))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(offline=st.lists(flags, min_size=1, max_size=4), horizon=st.integers(1, 6), history=ops)
def test_rows_on_disk_and_in_memory_give_the_same_batches(
    offline: list[list[bool]], horizon: int, history: list[tuple[int, int, str]]
) -> None:
    # As long as nothing is overwritten, which the table in memory would do to offline rows.
    room = sum(map(len, offline)) + 9 * len(history) + 1
    (table, oracle), (on_disk, _) = make(room, *offline), make(room, *offline, mapped=True)

    def same() -> None:
        assert_same_windows(table, on_disk, horizon)

    same()
    replay_ops([table, on_disk], oracle, history, {}, same)
    # What one has saved is taken up by the other.
    moved, _ = make(room, *offline, mapped=True)
    transfer(table, moved)
    oracle.check(moved.sample(100, horizon, generator(2)), horizon)
