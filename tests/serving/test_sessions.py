"""Sessions: expiry, bound, and chunks that stay with their session."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from rllib_fmq.serving.policy import Action, ChunkQueue, Floats
from rllib_fmq.serving.sessions import (
    PlanningError,
    PolicyService,
    SessionStore,
    TooManySessionsError,
    UnknownSessionError,
)
from tests.serving.plain_plans import INFO, plain_plan


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_unused_sessions_expire_and_used_ones_do_not() -> None:
    clock = Clock()
    store = SessionStore(INFO, max_sessions=10, idle_s=5.0, clock=clock)
    first, second = store.open(), store.open()
    clock.now = 4.0
    store.get(first)
    clock.now = 8.0
    assert len(store) == 1 and store.num_expired == 1
    store.get(first)
    with pytest.raises(UnknownSessionError, match="open another"):
        store.get(second)


def test_sessions_are_bounded() -> None:
    clock = Clock()
    store = SessionStore(INFO, max_sessions=2, idle_s=5.0, clock=clock)
    first, _ = store.open(), store.open()
    with pytest.raises(TooManySessionsError, match="all 2 sessions are in use"):
        store.open()
    store.close(first)
    store.open()
    clock.now = 6.0  # all expire
    assert store.open() and len(store) == 1


def test_concurrent_sessions_get_their_own_chunks() -> None:
    async def plan(row: Floats, noise: dict[str, Floats]) -> Action:
        await asyncio.sleep(0.001 * abs(float(row[0])))  # out of the order of the requests
        return plain_plan(row, noise)

    async def client(service: PolicyService, seed: int) -> list[Action]:
        name = service.store.open(seed)
        return [(await service.act(name, [seed % 5, k, 0.0]))[0] for k in range(7)]

    async def run() -> list[list[Action]]:
        service = PolicyService(INFO, plan, SessionStore(INFO, 100, 60.0))
        return await asyncio.gather(*(client(service, seed) for seed in range(30)))

    for seed, actions in enumerate(asyncio.run(run())):
        np.testing.assert_array_equal(actions, alone(seed, 7))


def alone(seed: int, num: int) -> list[Any]:
    """Actions of one client that has the policy for itself."""
    queue, actions = ChunkQueue(INFO, seed), []
    for k in range(num):
        if not len(queue):
            row = np.array([seed % 5, k, 0.0], np.float32)
            queue.fill(plain_plan(row, queue.draw_noise()))
        actions.append(queue.pop())
    return actions


def test_requests_of_one_session_are_served_in_turn() -> None:
    running = 0

    async def plan(row: Floats, noise: dict[str, Floats]) -> Action:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.001)
        running -= 1
        return plain_plan(row, noise)

    async def run() -> list[Action]:
        service = PolicyService(INFO, plan, SessionStore(INFO, 100, 60.0))
        name = service.store.open(seed=3)
        results = await asyncio.gather(*(service.act(name, [0.0, 0.0, 0.0]) for _ in range(6)))
        return [action for action, _ in results]

    assert len({tuple(action) for action in asyncio.run(run())}) == 6


def test_a_plan_that_fails_leaves_the_session_as_it_was() -> None:
    fails = True

    async def plan(row: Floats, noise: dict[str, Floats]) -> Action:
        if fails:
            raise RuntimeError("planner died")
        return plain_plan(row, noise)

    async def run() -> None:
        nonlocal fails
        service = PolicyService(INFO, plan, SessionStore(INFO, 100, 60.0))
        name = service.store.open(seed=3)
        for _ in range(2):
            fails = True
            with pytest.raises(PlanningError, match=r"failed \(RuntimeError\): send .* again"):
                await service.act(name, [3.0, 0.0, 0.0])
            fails = False
            actions = [(await service.act(name, [3.0, k, 0.0]))[0] for k in range(4)]
            np.testing.assert_array_equal(actions, alone(3, 4))
            await service.reset(name, seed=3)

    asyncio.run(run())


def test_reset_forgets_the_noise_of_a_plan_that_failed() -> None:
    queue = ChunkQueue(INFO, seed=3)
    queue.draw_noise()
    queue.reset(seed=4)
    drawn = queue.draw_noise()["noise"]
    np.testing.assert_array_equal(drawn, ChunkQueue(INFO, seed=4).draw_noise()["noise"])


def test_actions_that_are_not_finite_are_refused() -> None:
    async def plan(row: Floats, noise: dict[str, Floats]) -> Action:
        chunk = plain_plan(row, noise)
        chunk[-1, -1] = np.nan if row[0] > 1e30 else chunk[-1, -1]
        return chunk

    async def run() -> None:
        service = PolicyService(INFO, plan, SessionStore(INFO, 100, 60.0))
        name = service.store.open(seed=3)
        with pytest.raises(ValueError, match="actions planned for this observation are not finite"):
            await service.act(name, [1e38, 0.0, 0.0])
        actions = [(await service.act(name, [3.0, k, 0.0]))[0] for k in range(4)]
        np.testing.assert_array_equal(actions, alone(3, 4))

    asyncio.run(run())
