"""A line for each trial of a study that starts or ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback

from rllib_fmq.errors import root_cause

_QUIET_SECONDS = 60.0


class StudyProgress(Callback):
    """Follows the trials of a study.

    Args:
        total: Trials of the study.
        say: Receives the lines.
    """

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        self.total = total
        self.over = 0
        self.errors: dict[str, str] = {}
        """Trial -> error, one line."""
        self.completed: set[str] = set()
        """Trials that ended by themselves or by the scheduler's word."""
        self.interrupted = False
        self._say = say
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._success: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"total": self.total}  # Tune stores its callbacks; nothing reads this one again

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["total"], print)  # type: ignore[misc]

    def begin(self, over: int) -> None:
        """Say what there is to do.

        Args:
            over: Trials that earlier runs completed.
        """
        self.over = over
        done = f", {over} of them done before" if over else ""
        self._say(f"{self.total} trials{done}")

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say so."""
        self._started.setdefault(str(trial), time.monotonic())
        self._said[str(trial)] = time.monotonic()
        self._say(f"{trial}: starts")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Say how far a trial is, at most once a minute."""
        name, now = str(trial), time.monotonic()
        if "num_updates" not in result:
            return
        self._success[name] = result.get("success_rate", math.nan)
        if now - self._said.get(name, 0.0) >= _QUIET_SECONDS:
            self._said[name] = now
            self._say(f"{name}: {self._state(name, result)}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count it."""
        name = str(trial)
        self.completed.add(name)
        self.over += 1
        minutes = (time.monotonic() - self._started.get(name, time.monotonic())) / 60
        success = self._success.get(name, math.nan)
        shown = f", success {success:.2f} at the last evaluation" if math.isfinite(success) else ""
        self._say(f"{name}: done in {minutes:.1f} minutes{shown} ({self.over}/{self.total})")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Keep the reason; the other trials go on."""
        file = trial.error_file  # Tune writes it before it calls
        text = Path(file).read_text(encoding="utf-8") if file else "unknown error"
        self.errors[str(trial)] = root_cause(text)
        self._say(f"{trial}: FAILED: {self.errors[str(trial)]}")

    def _state(self, name: str, result: dict[str, Any]) -> str:
        state = f"{result['phase']}, {result['num_updates']} updates"
        if result["phase"] == "online":
            state += f", {result['num_online_env_steps']} environment steps"
        success = self._success[name]
        return f"{state}, success {success:.2f}" if math.isfinite(success) else state
