"""One trial of a study, in the process that Ray Tune gives it."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError

from rllib_fmq._version import __version__
from rllib_fmq.errors import root_cause
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.rollout.checkpoints import evaluate_checkpoint, find_checkpoint
from rllib_fmq.rollout.evaluation import summarise
from rllib_fmq.seeds import FINAL_EVALUATION_SEED
from rllib_fmq.studies.data_record import data_record
from rllib_fmq.studies.identity import full_config
from rllib_fmq.studies.locks import locked
from rllib_fmq.studies.store import (
    ROWS,
    TRIALS,
    RowWriter,
    config_file,
    config_id,
    read_lines,
    write_json,
)
from rllib_fmq.studies.trials import Trial

CHECKPOINT, DONE = "checkpoint", "done.json"
MAX_RESTARTS = 3
"""Of one trial, in one process, from its last checkpoint after a learner's process died."""
_SECONDS = "wall_seconds"
_OLD_NOTES = "trial.json"
"""Where checkpoints of format 1 have the notes that are in the manifest since."""

logger = logging.getLogger(__name__)

Report = Callable[[Mapping[str, Any]], None]

# Table column -> learner metric.
_LEARNER_METRICS = {
    "displacement": "displacement",
    "eta_eff": "eta_eff",
    "disagreement": "disagreement",
    "q_mean": "q_mean",
    "critic_loss": "critic_loss",
    "guidance_loss": "q_guidance_loss",
}


def trial_folder(study: Path, trial_id: str) -> Path:
    """Where a trial's rows and checkpoint lie."""
    return study / TRIALS / trial_id


def is_trained(study: Path, trial: Trial) -> bool:
    """Whether a trial's phases are over and its policy was saved."""
    return (trial_folder(study, trial.id) / DONE).is_file()


def missing_selectors(study: Path, trial: Trial) -> list[Mapping[str, Any]]:
    """Those of a trial's final evaluations that are still to be made."""
    rows = trial_folder(study, trial.id) / ROWS
    episodes = {
        row["selector_config"]: row.get("episodes")  # the last one counts
        for row in (read_lines(rows) if rows.is_file() else ())
        if row["kind"] == "final"
    }
    made = [json.loads(text) for text, n in episodes.items() if n == trial.final_episodes]
    return [selector for selector in trial.selectors if dict(selector) not in made]


def is_complete(study: Path, trial: Trial) -> bool:
    """Whether a trial is trained, and evaluated with each of its selectors."""
    return is_trained(study, trial) and not missing_selectors(study, trial)


def run_trial(
    study: str, folder: Path, trial: Trial, checkpoint_interval: int, report: Report
) -> None:
    """Train what is not trained, evaluate what is not evaluated; every result is kept at once.

    Args:
        study: Name of the study.
        folder: Of the study.
        trial: What to do.
        checkpoint_interval: Iterations between two checkpoints.
        report: Called with ``success_rate`` and counters after each evaluation, for Tune; the
            last time when the trial is complete.
    Raises:
        FileNotFoundError: If the parent's checkpoint is missing.
        ValueError: If another process runs this trial, or the dataset is not the one that other
            trials of the study were trained on.
    """
    own = trial_folder(folder, trial.id)
    with locked(own, f"trial {trial.id}"):
        last: Mapping[str, Any] = {}
        if not is_trained(folder, trial):
            last = _train_with_restarts(study, folder, trial, checkpoint_interval, report)
        _evaluate(study, folder, trial)
        if last:
            report(last)


def _writer(study: str, trial: Trial, own: Path, config: str) -> RowWriter:
    return RowWriter(
        own / ROWS,
        {
            "study": study,
            "trial": trial.id,
            "parent": trial.parent,
            "task": trial.task,
            "method": trial.method,
            "setting": trial.setting,
            "seed": trial.seed,
            "version": __version__,
            "git_revision": git_revision(),
            "config_id": config,
        },
    )


def _train_with_restarts(
    study: str, folder: Path, trial: Trial, checkpoint_interval: int, report: Report
) -> Mapping[str, Any]:
    for restarts in range(1, MAX_RESTARTS + 1):
        try:
            return _train(study, folder, trial, checkpoint_interval, report)
        except RayActorError as error:
            logger.warning(
                "trial %s: a learner died (%s): restart %d of %d from the last checkpoint",
                trial.id,
                root_cause(error),
                restarts,
                MAX_RESTARTS,
            )
    return _train(study, folder, trial, checkpoint_interval, report)


def _train(
    study: str, folder: Path, trial: Trial, checkpoint_interval: int, report: Report
) -> Mapping[str, Any]:
    """Both phases, or what is left of them; what is to be reported in the end."""
    own = trial_folder(folder, trial.id)
    config = trial.config(_parent_checkpoint(folder, trial))
    algorithm = config.build_algo()
    try:
        described = full_config(config) | data_record(algorithm, folder, trial)
        name = config_id(described)
        write_json(config_file(own, name), described)
        writer = _writer(study, trial, own, name)
        started = time.monotonic() - _restore(algorithm, own)
        last: Mapping[str, Any] = {}
        while algorithm.phase != "finished":
            result = algorithm.train()
            for row in _rows(algorithm, result):
                writer.append(_stamped(row, time.monotonic() - started))
            finished = algorithm.phase == "finished"
            if finished or algorithm.iteration % checkpoint_interval == 0:
                _save(algorithm, own, time.monotonic() - started)
            last = _reported(result)
            if result["evaluated_this_iteration"] and not finished:
                report(last)
        write_json(
            own / DONE,
            {
                "num_updates": algorithm.num_updates,
                "num_online_env_steps": algorithm.num_online_env_steps,
                "wall_seconds": time.monotonic() - started,
                "config_id": name,
            },
        )
        return last
    finally:
        algorithm.stop()
        shutil.rmtree(algorithm.logdir, ignore_errors=True)  # RLlib's own, and empty


def _evaluate(study: str, folder: Path, trial: Trial) -> None:
    own = trial_folder(folder, trial.id)
    content = json.loads((own / DONE).read_text(encoding="utf-8"))
    writer = _writer(study, trial, own, content["config_id"])
    for selector in missing_selectors(folder, trial):
        started = time.monotonic()
        settings = SelectorSettings(**selector)
        seeds = range(FINAL_EVALUATION_SEED, FINAL_EVALUATION_SEED + trial.final_episodes)
        outcomes = evaluate_checkpoint(own / CHECKPOINT, settings, seeds, config=trial.config())
        plans = sorted(second for outcome in outcomes for second in outcome.plan_seconds)
        row = {
            "kind": "final",
            "phase": trial.phase,
            "update": int(content["num_updates"]),
            "env_step": int(content["num_online_env_steps"]),
            **_evaluation_columns(summarise(outcomes), settings),
            "latency_ms": 1e3 * plans[len(plans) // 2],
        }
        writer.append(_stamped(row, time.monotonic() - started))


def _rows(algorithm: Any, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    learner = result.get("learners", {}).get("default_policy", {})
    yield {
        "kind": "training",
        "phase": result["phase"],
        "update": int(result["num_updates"]),
        "env_step": int(result["num_online_env_steps"]),
        "collected_success": _number(result.get("env_runners", {}).get("success_rate")),
        **{column: _number(learner.get(key)) for column, key in _LEARNER_METRICS.items()},
    }
    if result["evaluated_this_iteration"]:
        evaluated = result["evaluation"]["env_runners"]
        yield {
            "kind": "evaluation",
            "phase": result["phase"],
            "update": int(evaluated["num_updates_at_evaluation"]),
            "env_step": int(evaluated["num_online_env_steps_at_evaluation"]),
            **_evaluation_columns(evaluated, algorithm.config.selector("evaluation")),
        }


def _evaluation_columns(summary: Mapping[str, Any], settings: SelectorSettings) -> dict[str, Any]:
    return {
        "selector": settings.kind,
        "selector_config": json.dumps(dataclasses.asdict(settings)),
        "nfe": float(settings.nfe),
        "success": _number(summary.get("success_rate")),
        "episodes": _number(summary["num_episodes"]),
        "return": _number(summary["episode_return_mean"]),
        "length": _number(summary["episode_len_mean"]),
        "latency_ms": _number(summary["planning_latency_ms"]),
    }


def _reported(result: Mapping[str, Any]) -> dict[str, Any]:
    evaluated = (result.get("evaluation") or {}).get("env_runners") or {}
    return {
        "phase": result["phase"],
        "num_updates": result["num_updates"],
        "num_online_env_steps": result["num_online_env_steps"],
        "success_rate": _number(evaluated.get("success_rate")),
    }


def _stamped(row: Mapping[str, Any], wall_seconds: float) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {**row, "wall_seconds": round(wall_seconds, 3), "time": now}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _save(algorithm: Any, own: Path, seconds: float) -> None:
    """Replace the trial's checkpoint."""
    algorithm.checkpoint_notes = {_SECONDS: seconds}
    algorithm.save_to_path(str(own / CHECKPOINT))


def _restore(algorithm: Any, own: Path) -> float:
    """Go on from the trial's own checkpoint, if it has one; seconds that it had taken."""
    try:
        checkpoint = find_checkpoint(_own_checkpoint(own))
    except FileNotFoundError:
        return 0.0
    algorithm.restore_from_path(str(checkpoint))
    if _SECONDS in algorithm.checkpoint_notes:
        return float(algorithm.checkpoint_notes[_SECONDS])
    return float(json.loads((checkpoint / _OLD_NOTES).read_text(encoding="utf-8"))[_SECONDS])


def _own_checkpoint(own: Path) -> Path:
    """Where the trial's checkpoint lies, also one that version 0.1 was about to replace."""
    current, old = own / CHECKPOINT, own / f"{CHECKPOINT}.old"
    if not current.exists() and (old / _OLD_NOTES).is_file():
        old.rename(current)  # a kill came between the two renames
    return current


def parent_error(folder: Path, trial: Trial) -> str:
    """Why a trial cannot start from its parent; "" if it can."""
    if not trial.parent:
        return ""
    parent = trial_folder(folder, trial.parent)
    if not (parent / DONE).is_file():
        return f"its offline phase {trial.parent} is not finished."
    if not (parent / CHECKPOINT).is_dir():
        return (
            f"the checkpoint of its offline phase {trial.parent} is gone: remove that trial's "
            "folder to train it again."
        )
    return ""


def _parent_checkpoint(folder: Path, trial: Trial) -> str | None:
    if error := parent_error(folder, trial):
        raise FileNotFoundError(error)
    return str(trial_folder(folder, trial.parent) / CHECKPOINT) if trial.parent else None


@lru_cache(maxsize=1)
def git_revision() -> str:
    """Revision of the source that runs, with "+changes" where it was edited; "" if unknown."""
    root = Path(__file__).resolve().parents[2]
    try:
        revision, status = (
            subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return revision[:12] + ("+changes" if status else "")
