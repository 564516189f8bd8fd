"""Stop-watches around methods of live objects."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any


class Accumulator:
    """Seconds that went by in each named part; nested calls count once, for the outermost.

    Args:
        clock: ``time.process_time`` or ``time.perf_counter``.
    """

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}
        self._inside = False

    def reset(self) -> None:
        """Forget what was counted."""
        self.seconds = dict.fromkeys(self.seconds, 0.0)

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())

    @contextlib.contextmanager
    def around(self, part: str, owner: Any, name: str) -> Iterator[None]:
        """Within this context, calls of ``owner.name`` count for ``part``."""
        original = getattr(owner, name)
        had = name in vars(owner)
        self.seconds.setdefault(part, 0.0)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return original(*args, **kwargs)
            self._inside = True
            start = self.clock()
            try:
                return original(*args, **kwargs)
            finally:
                self.seconds[part] += self.clock() - start
                self._inside = False

        setattr(owner, name, timed)
        try:
            yield
        finally:
            if had:
                setattr(owner, name, original)
            else:
                delattr(owner, name)
