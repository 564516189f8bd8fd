"""Reading windows in one piece: the same as following every link, in memory of its own, fast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rllib_fmq.learner.replay import ReplayTable
from rllib_fmq.nn.objectives import WindowBatch

from .replay_oracle import add_fragment, generator, make


def assert_same(first: WindowBatch, second: WindowBatch) -> None:
    for name, a, b in zip(WindowBatch._fields, first, second, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b), name


@pytest.mark.parametrize("horizon", [1, 2, 5, 30])
@pytest.mark.parametrize("capacity", [3, 40, 200])
def test_windows_are_those_of_following_all_links(capacity: int, horizon: int) -> None:
    # 400 rows of three interleaved episodes: all tables wrap around, several times or once.
    table, oracle = make(capacity)
    running = [oracle.new_episode() for _ in range(3)]
    noise = np.random.default_rng(0)
    while len(oracle.rows) < 400:
        env, end = int(noise.integers(3)), str(noise.choice(["open", "open", "truncated"]))
        add_fragment(table, oracle, running[env], int(noise.integers(1, 4)), end)
        if end != "open":
            running[env] = oracle.new_episode()
        rows = torch.arange(len(table))
        followed = table._ring.followed(rows, horizon).batch()
        assert_same(table._ring.windows(rows, horizon), followed)
    oracle.check(table.sample(300, horizon, generator()), horizon)


def test_an_overwritten_row_does_not_stay_joined() -> None:
    table, oracle = make(8)
    add_fragment(table, oracle, oracle.new_episode(), 8, "truncated")
    assert table._ring._joined.tolist() == [True] * 7 + [False]
    for _ in range(2):
        add_fragment(table, oracle, oracle.new_episode(), 2, "truncated")
    assert table._ring._joined.tolist() == [True, False] * 2 + [True] * 3 + [False]
    oracle.check(table.sample(200, 3, generator()), 3)


def test_the_rows_are_those_of_randint() -> None:
    table, _ = make(100, [False] * 70)
    noise, expected = generator(4), generator(4)
    for batch in (5, 256, 256, 3):
        rows = torch.randint(70, (batch,), generator=expected, dtype=torch.long)
        assert_same(table.sample(batch, 3, noise), table._ring.windows(rows, 3))


def test_batches_share_no_memory_with_each_other_or_the_table() -> None:
    table, oracle = make(60, [False] * 20, [False] * 30)
    noise = generator()
    kept = table.sample(16, 4, noise)
    copies = WindowBatch(*(tensor.clone() for tensor in kept))
    for tensor in table.sample(16, 4, noise):
        tensor.fill_(1)
    assert_same(kept, copies)
    oracle.check(table.sample(200, 4, noise), 4)


def test_what_lies_past_the_end_is_zero_even_after_an_infinite_reward() -> None:
    table = ReplayTable(10, 1, 1)
    ones = np.ones((4, 1))
    table.add_fragment("a", ones, ones[1:], np.array([1.0, 1.0, np.inf]), True, True)
    rows = torch.tensor([2, 1])
    for batch in (table._ring.windows(rows, 3), table._ring.followed(rows, 3).batch()):
        assert batch.rewards.tolist() == [[np.inf, 0.0, 0.0], [1.0, np.inf, 0.0]]


@pytest.mark.slow
def test_a_batch_costs_a_fraction_of_a_plain_gather() -> None:
    replay_sampling = pytest.importorskip("benchmarks.replay_sampling")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timed = replay_sampling.cells(500_000)
        replay_sampling.medians(timed, 50)
        seconds = replay_sampling.medians(timed, 1000)
    finally:
        torch.set_num_threads(threads)
    assert seconds["replay"] < 0.55 * seconds["numpy gather"], seconds
    assert seconds["replay"] < 1.3 * seconds["contiguous"], seconds
