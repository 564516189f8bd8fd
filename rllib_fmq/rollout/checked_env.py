"""An environment whose faults are found, and that can be made anew."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gymnasium as gym

from rllib_fmq.rollout.faults import (
    RESET_ERROR,
    STEP_ERROR,
    TIMEOUT,
    EnvFault,
    Step,
    check_reset,
    check_step,
    describe,
)

Env = gym.Env[Any, Any]


class CheckedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Raises ``EnvFault``, and nothing else, where the environment fails.

    Args:
        make: Makes the environment.
        timeout_s: Seconds that making, a reset or a step may take; all calls then run in one
            helper thread, which is left behind when it hangs. None: no limit, no thread.
    """

    def __init__(self, make: Callable[[], Env], timeout_s: float | None = None) -> None:
        self._make = make
        self._timeout_s = timeout_s
        self._thread: HelperThread | None = None
        super().__init__(self._call(make))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The environment's ``reset``, checked."""
        try:
            result = self._call(lambda: self.env.reset(seed=seed, options=options))
            return check_reset(self.observation_space, result)
        except EnvFault:
            raise
        except (Exception, SystemExit) as error:
            raise EnvFault(RESET_ERROR, describe(error)) from error

    def step(self, action: Any) -> Step:
        """The environment's ``step``, checked."""
        try:
            result = self._call(lambda: self.env.step(action))
            return check_step(self.observation_space, result)
        except EnvFault:
            raise
        except (Exception, SystemExit) as error:
            raise EnvFault(STEP_ERROR, describe(error)) from error

    def render(self) -> Any:
        """The environment's ``render``, in the thread that made it."""
        return self._call(lambda: self.env.render())

    def renew(self) -> None:
        """Close the environment, as far as it lets itself be closed, and make a new one.

        Raises:
            EnvFault: If it cannot be made.
        """
        self.close()
        try:
            self.env = self._call(self._make)
        except EnvFault:
            raise
        except (Exception, SystemExit) as error:
            raise EnvFault(RESET_ERROR, f"making it anew: {describe(error)}") from error

    def close(self) -> None:
        """Close the environment; errors of a broken one do not matter."""
        if self._timeout_s is not None and self._thread is None:
            return  # it hangs in a thread that was left behind
        with suppress(Exception):
            self._call(self.env.close)
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    def _call(self, function: Callable[[], Any]) -> Any:
        if self._timeout_s is None:
            return function()
        if self._thread is None:
            self._thread = HelperThread()
        try:
            return self._thread.call(function, self._timeout_s)
        except queue.Empty:
            self._thread.stop()  # once it no longer hangs
            self._thread = None
            raise EnvFault(
                TIMEOUT, f"no answer within env_step_timeout_s={self._timeout_s:g}"
            ) from None


class HelperThread:
    """Runs one function after the other in a daemon thread, which can be left behind."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="rllib_fmq-env", daemon=True).start()

    def call(self, function: Callable[[], Any], timeout_s: float) -> Any:
        """What ``function`` returns or raises.

        Raises:
            queue.Empty: If it takes longer; the thread must not be used again.
        """
        self._calls.put(function)
        result, error = self._answers.get(timeout=timeout_s)
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        """Let the thread end, after the function that it runs."""
        self._calls.put(None)

    def _run(self) -> None:
        while (function := self._calls.get()) is not None:
            try:
                self._answers.put((function(), None))
            except (Exception, SystemExit) as error:
                self._answers.put((None, error))
