"""Chunk state of many clients: sessions with an expiry and a bound."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from rllib_fmq.serving.policy import Action, ChunkQueue, Floats, PolicyInfo

PlanRow: TypeAlias = Callable[[Floats, dict[str, Floats]], Awaitable[Action]]
"""``await plan(obs, noise)``: one chunk (H, *action shape) for one observation (o,)."""


class UnknownSessionError(LookupError):
    """A session that was never opened, was closed, or has expired."""


class TooManySessionsError(RuntimeError):
    """As many sessions as allowed are in use."""


class PlanningError(RuntimeError):
    """The planner failed, or is not there."""


@dataclass
class Session:
    """One client's episode."""

    queue: ChunkQueue
    last_used: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an action is chosen: a client's requests are served one after the other."""


class SessionStore:
    """Sessions by their secret names.

    Args:
        info: Of the policy.
        max_sessions: At a time, >= 1.
        idle_s: Seconds without a request after which a session expires, > 0.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        info: PolicyInfo,
        max_sessions: int,
        idle_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._info = info
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # longest unused first
        self.num_expired = 0

    def __len__(self) -> int:
        """Sessions that have not expired."""
        self._expire()
        return len(self._sessions)

    def open(self, seed: int | None = None) -> str:
        """Begin a session.

        Args:
            seed: Of its noise; None: fresh.
        Returns:
            Its name, which cannot be guessed.
        Raises:
            TooManySessionsError: If no more are allowed.
        """
        if len(self) >= self._max_sessions:
            raise TooManySessionsError(
                f"all {self._max_sessions} sessions are in use: close one, or wait for one to "
                f"expire ({self._idle_s:g} s without a request)."
            )
        name = secrets.token_urlsafe(16)
        self._sessions[name] = Session(ChunkQueue(self._info, seed), self._clock())
        return name

    def get(self, name: str) -> Session:
        """A session, which counts as used now.

        Args:
            name: From ``open``.
        Raises:
            UnknownSessionError: If there is none.
        """
        self._expire()
        session = self._sessions.get(name)
        if session is None:
            raise UnknownSessionError("this session is unknown, closed or expired: open another.")
        session.last_used = self._clock()
        self._sessions.move_to_end(name)
        return session

    def close(self, name: str) -> None:
        """End a session.

        Args:
            name: From ``open``.
        Raises:
            UnknownSessionError: If there is none.
        """
        self.get(name)
        del self._sessions[name]

    def _expire(self) -> None:
        oldest_allowed = self._clock() - self._idle_s
        while self._sessions:
            name, session = next(iter(self._sessions.items()))
            if session.last_used >= oldest_allowed:
                return
            del self._sessions[name]
            self.num_expired += 1


class PolicyService:
    """Acts for many sessions; chunks are planned elsewhere.

    Args:
        info: Of the policy.
        plan: Plans one chunk.
        store: The sessions.
    """

    def __init__(self, info: PolicyInfo, plan: PlanRow, store: SessionStore) -> None:
        self.info = info
        self.store = store
        self._plan = plan

    async def act(self, name: str, obs: Any) -> tuple[Action, bool]:
        """The next action of a session.

        Args:
            name: Of the session.
            obs: See ``PolicyInfo.check_observation``.
        Returns:
            The action, and whether a chunk was planned for it.
        Raises:
            UnknownSessionError: If there is no such session.
            ValueError: If the observation does not fit, or the planned actions are not finite.
            PlanningError: If planning failed; the session goes on, with the same noise.
        """
        session = self.store.get(name)
        row = self.info.check_observation(obs)
        async with session.lock:
            planned = not len(session.queue)
            if planned:
                session.queue.fill(await self._planned(row, session.queue.draw_noise()))
            return session.queue.pop(), planned

    async def reset(self, name: str, seed: int | None = None) -> None:
        """Begin another episode in a session.

        Args:
            name: Of the session.
            seed: See ``ChunkQueue.reset``.
        Raises:
            UnknownSessionError: If there is no such session.
        """
        session = self.store.get(name)
        async with session.lock:
            session.queue.reset(seed)

    async def check(self) -> None:
        """Plan once.

        Raises:
            PlanningError: If that failed.
        """
        noise = ChunkQueue(self.info, seed=0).draw_noise()
        await self._planned(np.zeros(self.info.obs_size, np.float32), noise)

    async def _planned(self, row: Floats, noise: dict[str, Floats]) -> Action:
        try:
            return await self._plan(row, noise)
        except Exception as error:  # whatever the planner's process, or the way to it, had
            raise PlanningError(
                f"planning failed ({type(error).__name__}): send the request again."
            ) from error
