"""Progress of a run at the terminal: a line a result, and a live bar where there is one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from ray.tune import Callback

from rllib_fmq.checkpointing.trial_folder import TrialFolder
from rllib_fmq.cli.progress_line import TrialProgress
from rllib_fmq.errors import root_cause

_QUIET_SECONDS = 5.0
"""Between two plain lines of a trial that say nothing new but numbers."""


class ProgressCallback(Callback):
    """Prints on stdout, one line a result: phase, updates, steps, success, speed, time left.

    Iterations that are over in a blink are not all printed: the first of a phase, those with an
    evaluation and the last are, others at most every few seconds. On a terminal they move a bar
    instead. Tune stores its callbacks with the experiment, so that state is made when needed.

    Args:
        live: Show a bar; None: where stdout is a terminal.
    """

    def __init__(self, live: bool | None = None) -> None:
        self._live_wanted = live
        self._reset()

    def _reset(self) -> None:
        self._progress: dict[str, TrialProgress] = {}
        self._printed: dict[str, float] = {}
        self._names: dict[str, str] = {}
        self._bars: dict[str, Any] = {}
        self._display: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"live": self._live_wanted}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._live_wanted = state["live"]
        self._reset()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Name a trial that starts."""
        name = self._name(trial, trials)
        if name:
            self._say(f"{name}starts")

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Any],
        trial: Any,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Say how a trial is doing."""
        progress = self._progress.setdefault(trial.trial_id, TrialProgress())
        phase = progress.phase
        line = self._name(trial, trials) + progress.line(result)
        news = bool(
            progress.phase != phase
            or not self._printed.get(trial.trial_id)
            or result.get("done")
            or (result.get("evaluated_this_iteration") and "phase" in result)
        )
        now = time.monotonic()
        if self._live():
            self._move_bar(trial.trial_id, progress, line)
        elif now - self._printed.get(trial.trial_id, 0.0) >= _QUIET_SECONDS:
            news = True
        if news:
            self._printed[trial.trial_id] = now
            self._say(line)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """End a trial's bar; name the trial where there are several."""
        self._end_bar(trial.trial_id)
        name = self._name(trial, trials)
        if name:
            # Tune sets the status of this one after the call.
            done = sum(t.is_finished() or t is trial for t in trials)
            self._say(f"{name}is done ({done} of {len(trials)})")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say why a trial starts again, and how often it may."""
        log = Path(trial.error_file or "")
        why = root_cause(log.read_text(encoding="utf-8")) if log.is_file() else "unknown error"
        self._say(
            f"{self._name(trial, trials)}failed (failure {trial.run_metadata.num_failures} of "
            f"{trial.max_failures} allowed), starts again from {_start(trial)}: {why}"
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """End a trial's bar; the error itself is reported when the run is over."""
        self._end_bar(trial.trial_id)
        name = self._name(trial, trials)
        if name:
            self._say(f"{name}failed")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Take the bars away."""
        if self._display is not None:
            self._display.stop()
            self._display = None

    def _name(self, trial: Any, trials: list[Any]) -> str:
        """Such as "[00002 eta=0.3] ", and nothing where there is one trial only."""
        if trial.trial_id not in self._names:
            searched = trial.evaluated_params or {}
            words = [str(trial.trial_id).rsplit("_", 1)[-1]]
            words += [f"{key}={_value(value)}" for key, value in searched.items()]
            self._names[trial.trial_id] = f"[{' '.join(words)}] "
        several = len(trials) > 1 or trial.experiment_tag not in ("", "0", None)
        return self._names[trial.trial_id] if several else ""

    def _live(self) -> bool:
        return sys.stdout.isatty() if self._live_wanted is None else self._live_wanted

    def _say(self, line: str) -> None:
        if self._display is not None:
            self._display.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def _move_bar(self, key: str, progress: TrialProgress, line: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        if self._display is None:
            self._display = Progress(
                BarColumn(bar_width=20),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.description}", markup=False),
                transient=True,
            )
            self._display.start()
        if key not in self._bars:
            self._bars[key] = self._display.add_task(line, total=None)
        self._display.update(
            self._bars[key], description=line, total=progress.total, completed=progress.done
        )

    def _end_bar(self, key: str) -> None:
        if key in self._bars and self._display is not None:
            self._display.remove_task(self._bars.pop(key))


def _start(trial: Any) -> str:
    """Where a trial goes on; Tune may not know its last checkpoint yet."""
    folder = TrialFolder(trial.storage.storage_filesystem, trial.path)
    known = trial.checkpoint is not None or folder.newest_whole() is not None
    return "its last checkpoint" if known else "the beginning"


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
