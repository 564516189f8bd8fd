"""Results tables of made-up studies, with numbers that can be computed by hand.

``StudyBuilder`` adds rows one trial at a time; ``small_study`` is a complete study:

    offline: updates 500, 1000 (evaluated);  online: env steps 250, 500, 750, 1000 (evaluated)
    final success = BASE[method] - 0.1 * task index + 0.02 * seed  (+ 0.05 with QGBS)
    online curve: from the offline policy's 0.2 straight to the final value, reached at REACHED

as `rllib study run` makes it: FMQ and MVP start from one pre-training, QC from its own, and each
final row has the wall time of its evaluation alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from rllib_fmq.studies.store import COLUMNS, INTEGERS, NUMBERS, TEXTS

CUBE = "cube-single-play-singletask-task2-v0"
MAZE = "pointmaze-medium-navigate-singletask-task1-v0"
CAN = "can-mh"

BASE = {"QC": 0.5, "MVP": 0.4, "FMQ": 0.7}
OFFLINE_SUCCESS = 0.2
REACHED = {"QC": 750, "MVP": 1000, "FMQ": 500}
QGBS_GAIN = 0.05
OFFLINE_UPDATES = 1000
EVALUATED_AT = (250, 500, 750, 1000)
FINAL_SECONDS = 60.0
"""Wall time of each final evaluation."""

PAPER_CONFIG = {
    "offline_updates": 1_000_000,
    "online_env_steps": 1_000_000,
    "actor_hidden": [512] * 4,
    "critic_hidden": [512] * 4,
    "num_candidates": 32,
    "dataset_generated": None,
}

Final: TypeAlias = tuple[str, dict[str, float], float]
"""(selector, its settings, success) of a final evaluation."""


def best_of(candidates: int, success: float = 0.0) -> Final:
    """Final evaluation by best-of-N."""
    return "best_of_n", {"num_candidates": candidates}, success


def euler(success: float = 0.0) -> Final:
    """Final evaluation by the best of 32 of 10 Euler steps."""
    return "euler", {"num_candidates": 32, "euler_steps": 10}, success


def qgbs(
    success: float = 0.0,
    beam_width: int = 4,
    search_iters: int = 1,
    branches: int = 4,
    eta: float = 0.3,
) -> Final:
    """Final evaluation by QGBS."""
    settings = {
        "beam_width": beam_width,
        "search_iters": search_iters,
        "branches": branches,
        "eta": eta,
        "snr": 1.5,
    }
    return "qgbs", settings, success


def evaluations_of(selector: str, settings: dict[str, float]) -> float:
    """Network evaluations a decision."""
    if selector == "qgbs":
        numbers = {"beam_width": 4, "search_iters": 1, "branches": 4} | settings
        return numbers["beam_width"] * (1 + numbers["search_iters"] * numbers["branches"])
    return settings.get("num_candidates", 1) * settings.get("euler_steps", 1)


class StudyBuilder:
    """Collects rows; every column of the schema is filled."""

    def __init__(self, study: str = "synthetic") -> None:
        self.study = study
        self.rows: list[dict[str, Any]] = []

    def trial(
        self,
        task: str,
        method: str,
        seed: int,
        *,
        setting: str = "default",
        parent: str = "",
        offline: Iterable[tuple[int, float]] = (),
        online: Iterable[tuple[int, float]] = (),
        training: Iterable[Mapping[str, float]] = (),
        finals: Sequence[Final] = (),
        evaluated_with: Final | None = None,
        episodes: float = 50.0,
        updates_before: int = OFFLINE_UPDATES,
        wall_minutes: float = 10.0,
        trial: str = "",
    ) -> str:
        """Add a trial.

        Args:
            offline: (update, success) of the evaluations before the switch.
            online: (env step, success) of those after it; one update a step.
            training: Values of training rows; "env_step" among them, or "update" if offline.
            finals: Final evaluations; see `best_of`, `euler`, `qgbs`.
            evaluated_with: During training; by default Euler for QC, else best of 32.
            updates_before: Offline updates, which the online rows' updates follow.
        Returns:
            The trial's id.
        """
        offline, online, training = list(offline), list(online), list(training)
        name = trial or f"{task}|{method}|{setting}|{seed}|{'online' if online else 'offline'}"
        common: dict[str, Any] = {
            "study": self.study,
            "trial": name,
            "parent": parent,
            "task": task,
            "method": method,
            "setting": setting,
            "seed": seed,
            "config_id": f"{method}-{setting}",
            "version": "0.1.0",
            "git_revision": "abc1234",
            "time": "2026-01-01T00:00:00+00:00",
        }
        own = evaluated_with or (euler() if method == "QC" else best_of(32))
        evaluation: dict[str, Any] = {"kind": "evaluation", "episodes": 20.0} | _selector(own)
        points = [("offline", u, 0, s) for u, s in offline]
        points += [("online", updates_before + e, e, s) for e, s in online]
        seconds = 60.0 * wall_minutes
        for i, (phase, update, step, success) in enumerate(points, start=1):
            self._add(
                common | evaluation,
                phase=phase,
                update=update,
                env_step=step,
                success=success,
                wall_seconds=seconds * i / len(points),
            )
        for values in training:
            phase = "online" if "env_step" in values else "offline"
            step = int(values.get("env_step", 0))
            update = updates_before + step if phase == "online" else int(values["update"])
            numbers = {k: v for k, v in values.items() if k not in ("env_step", "update")}
            self._add(common, kind="training", phase=phase, update=update, env_step=step, **numbers)
        for final in finals:
            phase, update, step, _ = points[-1] if points else ("offline", updates_before, 0, 0.0)
            self._add(
                common | _selector(final),
                kind="final",
                phase=phase,
                update=update,
                env_step=step,
                success=final[2],
                episodes=episodes,
                wall_seconds=FINAL_SECONDS,
            )
        return name

    def _add(self, common: Mapping[str, Any], **values: Any) -> None:
        empty: dict[str, Any] = dict.fromkeys(TEXTS, "")
        empty |= dict.fromkeys(INTEGERS, 0) | dict.fromkeys(NUMBERS, float("nan"))
        self.rows.append(empty | common | values)

    def frame(self) -> pd.DataFrame:
        """The table."""
        return pd.DataFrame(self.rows, columns=list(COLUMNS))


def _selector(final: Final) -> dict[str, Any]:
    """Columns that say how actions were chosen."""
    kind, settings, _ = final
    nfe = evaluations_of(kind, settings)
    return {
        "selector": kind,
        "selector_config": json.dumps({"kind": kind} | settings),
        "nfe": float(nfe),
        "latency_ms": nfe / 32.0,
    }


def final_success(method: str, task_index: int, seed: int) -> float:
    """Success of `small_study` after training, with the method's own selector."""
    return BASE[method] - 0.1 * task_index + 0.02 * seed


def small_study(
    tasks: Sequence[str] = (CUBE, MAZE, CAN),
    methods: Sequence[str] = ("QC", "MVP", "FMQ"),
    seeds: Sequence[int] = (0, 1, 2),
    settings: Mapping[str, float] | None = None,
    search: Sequence[tuple[int, int, int]] = ((1, 2, 8),),
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A complete study: FMQ and MVP share their pre-training, QC has its own.

    Args:
        settings: Other settings of FMQ, and what each adds to FMQ's success; by default
            "eta=0.3" (-0.1) and, pre-trained on their own, "distillation=lsd" (+0.02) and
            "distillation=psd" (-0.04).
        search: Further QGBS searches of FMQ as (K, B, M); each adds 0.01 * K to FMQ's success.
    Returns:
        The table, and what study.json holds.
    """
    if settings is None:
        settings = {"eta=0.3": -0.1, "distillation=lsd": 0.02, "distillation=psd": -0.04}
    builder = StudyBuilder()
    for index, task in enumerate(tasks):
        for seed in seeds:
            _add_default(builder, task, index, methods, seed, search)
            for setting, gain in settings.items() if "FMQ" in methods else ():
                parent = f"{task}|{_shared(methods)}|default|{seed}|offline"
                if setting.startswith("distillation"):
                    parent = _pretraining(builder, task, "FMQ", seed, setting)
                score = final_success("FMQ", index, seed) + gain
                _online(builder, task, "FMQ", seed, score, parent, setting=setting)
    info = {
        "name": "synthetic",
        "description": "A study for tests.",
        "scale": "reduced",
        "scale_note": "A thousand updates instead of a million.",
        "methods": list(methods),
        "tasks": list(tasks),
        "settings": ["default", *settings],
        "paper": {},
        "command": "rllib study run synthetic.py",
        "version": "0.1.0",
        "git_revision": "abc1234",
    }
    return builder.frame(), info


def configs(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """What configs.json holds: eta 1 (0.3 in that setting), beta 0.3, else the paper's numbers."""
    settings = dict(zip(frame["config_id"], frame["setting"], strict=True))
    return {
        name: PAPER_CONFIG | {"eta": 0.3 if setting == "eta=0.3" else 1.0, "beta": 0.3}
        for name, setting in settings.items()
    }


def _shared(methods: Sequence[str]) -> str:
    return "/".join(m for m in ("FMQ", "MVP") if m in methods)


def _add_default(
    builder: StudyBuilder,
    task: str,
    index: int,
    methods: Sequence[str],
    seed: int,
    search: Sequence[tuple[int, int, int]],
) -> None:
    shared = _shared(methods)
    parent = _pretraining(builder, task, shared, seed, "default") if shared else ""
    for method in methods:
        score = final_success(method, index, seed)
        if method == "QC":
            own = _pretraining(builder, task, "QC", seed, "default")
            _online(builder, task, "QC", seed, score, own, finals=[euler(score)])
            continue
        searches = search if method == "FMQ" else ()
        finals = [best_of(32, score), qgbs(score + QGBS_GAIN)]
        finals += [qgbs(score + 0.01 * k, m, k, b) for k, b, m in searches]
        _online(builder, task, method, seed, score, parent, finals=finals)


def _pretraining(builder: StudyBuilder, task: str, methods: str, seed: int, setting: str) -> str:
    success = OFFLINE_SUCCESS + 0.01 * seed
    return builder.trial(
        task,
        methods,
        seed,
        setting=setting,
        offline=[(500, 0.1), (OFFLINE_UPDATES, OFFLINE_SUCCESS)],
        training=[{"update": 500, "critic_loss": 2.0}, {"update": 1000, "critic_loss": 1.0}],
        finals=[euler(success) if methods == "QC" else best_of(32, success)],
    )


def _online(
    builder: StudyBuilder,
    task: str,
    method: str,
    seed: int,
    score: float,
    parent: str,
    setting: str = "default",
    finals: Sequence[Final] | None = None,
) -> None:
    # Displacement grows towards the radius, which is smaller with a small eta.
    eta = 0.3 if setting == "eta=0.3" else 1.0
    training = [
        {
            "env_step": step,
            "displacement": 0.8 * eta * step / 1000,
            "eta_eff": 0.8 * eta,
            "disagreement": 0.5,
            "collected_success": score,
        }
        for step in EVALUATED_AT
    ]
    builder.trial(
        task,
        method,
        seed,
        setting=setting,
        parent=parent,
        online=_ramp(score, REACHED[method]),
        training=training if method == "FMQ" else [{"env_step": s} for s in EVALUATED_AT],
        finals=[best_of(32, score)] if finals is None else finals,
    )


def _ramp(score: float, reached: int) -> list[tuple[int, float]]:
    rise = score - OFFLINE_SUCCESS
    return [(s, OFFLINE_SUCCESS + rise * min(1.0, s / reached)) for s in EVALUATED_AT]
