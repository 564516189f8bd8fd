"""A training result as one line that a person can read."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_WINDOW = 10
"""Results that speed and time left are averaged over."""


@dataclass
class TrialProgress:
    """What the lines of one trial need to remember; also the state of its bar."""

    phase: str = ""
    done: float = 0.0
    """Updates offline, environment steps online."""
    total: float | None = None
    evaluation: str = ""
    """The last evaluation, in words."""
    history: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    """(done, seconds) of the phase's last results."""

    def line(self, result: Mapping[str, Any]) -> str:
        """Take a result in, and say it.

        Args:
            result: As Tune's callbacks get it.
        Returns:
            Phase, updates, environment steps, success, speed, time left.
        """
        if "phase" in result and "num_online_env_steps" in result:
            return self._two_phases(result)
        return self._plain(result)

    def _two_phases(self, result: Mapping[str, Any]) -> str:
        config = result.get("config") or {}
        phase = str(result["phase"])
        updates, steps = result["num_updates"], result["num_online_env_steps"]
        offline_total = config.get("offline_updates") or 0
        online_total = config.get("online_env_steps") or 0
        if phase == "offline":
            done, total, unit = updates, offline_total, "updates"
            words = [f"updates {_of(updates, offline_total)}"]
        else:
            done, total, unit = steps, online_total, "steps"
            words = [f"env steps {_of(steps, online_total)}", f"updates {updates:,}"]
        speed, left = self._pace(phase, done, total or None, result)
        words = [f"{phase:<7}", *words, *self._scores(result)]
        if speed is not None:
            words.append(f"{_short(speed)} {unit}/s")
        if left is not None and left > 0:
            after = " of this phase" if phase == "offline" and online_total else ""
            words.append(f"{duration(left)} left{after}")
        return "  ".join(words)

    def _plain(self, result: Mapping[str, Any]) -> str:
        steps = result.get("num_env_steps_sampled_lifetime") or 0
        speed, _ = self._pace("", steps, None, result)
        words = [f"iteration {result.get('training_iteration', 0)}", f"env steps {steps:,.0f}"]
        words += self._scores(result)
        if speed is not None:
            words.append(f"{_short(speed)} steps/s")
        words.append(f"{duration(result.get('time_total_s') or 0.0)} so far")
        return "  ".join(words)

    def _pace(
        self, phase: str, done: float, total: float | None, result: Mapping[str, Any]
    ) -> tuple[float | None, float | None]:
        """Speed in this phase, and seconds until its end; None while not known."""
        now = float(result.get("time_total_s") or 0.0)
        if phase != self.phase or not self.history:
            # A trial that was resumed has done some of its phase before.
            from_zero = bool(self.history) or result.get("training_iteration") == 1
            self.history.clear()
            if from_zero:
                self.history.append((0.0, now - float(result.get("time_this_iter_s") or 0.0)))
        self.phase, self.done, self.total = phase, done, total
        self.history.append((done, now))
        amount, seconds = done - self.history[0][0], now - self.history[0][1]
        if amount <= 0 or seconds <= 0:
            return None, None
        speed = amount / seconds
        return speed, (total - done) / speed if total else None

    def _scores(self, result: Mapping[str, Any]) -> list[str]:
        collected = result.get("env_runners") or {}
        evaluated = (result.get("evaluation") or {}).get("env_runners") or {}
        fresh = result.get("evaluated_this_iteration", True)
        words = []
        score = _score(evaluated)
        if score:
            self.evaluation = score
            # A star marks the line that a new evaluation came with.
            words.append(f"eval {score}{'*' if fresh and 'phase' in result else ''}")
        score = _score(collected)
        if score:
            words.append(f"collected {score}")
        return words


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss.

    Args:
        seconds: >= 0.
    Returns:
        Such as "0:02:05".
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _score(metrics: Mapping[str, Any]) -> str:
    success = metrics.get("success_rate")
    if _is_number(success):
        return f"success {success:.2f}"
    value = metrics.get("episode_return_mean")
    return f"return {value:.4g}" if _is_number(value) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _of(done: float, total: float) -> str:
    return f"{done:,}/{total:,}" if total else f"{done:,}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
