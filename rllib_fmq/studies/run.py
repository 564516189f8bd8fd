"""Runs what is missing of a study, on Ray Tune."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_fmq._version import __version__
from rllib_fmq.studies.definition import DEFAULT, Study
from rllib_fmq.studies.progress import StudyProgress
from rllib_fmq.studies.store import INFO, export, write_json
from rllib_fmq.studies.trial_run import (
    CHECKPOINT,
    git_revision,
    is_complete,
    is_trained,
    run_trial,
    trial_folder,
)
from rllib_fmq.studies.trials import OFFLINE, Trial, choose_trials, plan_trials

STOPPED = "stopped.json"
"""Left by a trial that a scheduler stopped before its end."""


@dataclass(frozen=True)
class Outcome:
    """What is done of a study, and what is not."""

    total: int
    finished: int
    """Complete trials, those of earlier runs included."""
    stopped: int
    """Trials that the scheduler stopped early."""
    failed: Mapping[str, str]
    """Trial -> error, one line."""
    blocked: Sequence[str]
    """Trials that were not started because their offline phase failed."""
    unfinished: Sequence[str]
    """Trials that were interrupted or not started."""


def run_study(
    study: Study,
    folder: Path,
    command: str = "",
    dataset_dir: Path | None = None,
    max_concurrent: int = 0,
    only: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Outcome:
    """Run all trials of a study that are not complete; Ray must be running.

    Offline phases come first, then what starts from them. A trial that fails is reported, and
    the others go on. Everything lies in ``folder``: started again there, a study does what is
    missing, and interrupted trials go on from their last checkpoint.

    Args:
        study: What to run.
        folder: Where everything is written; for trials on several machines, a shared folder.
        command: With which this can be repeated, for the report.
        dataset_dir: Where datasets are looked for first.
        max_concurrent: Trials at a time; 0: as many as the resources allow.
        only: Parts of names: only trials whose names hold all of them, and what they start
            from; none: all trials.
        say: Receives a line for each trial that starts or ends.
    Returns:
        What is done.
    Raises:
        ValueError: If the study or one of its configs is wrong; nothing is run then.
    """
    study.check()
    planned = plan_trials(study, dataset_dir)
    trials = choose_trials(planned, only)
    folder = folder.expanduser().resolve()
    write_json(folder / INFO, describe_study(study, planned, command))
    progress = StudyProgress(len(trials), say)
    progress.begin(sum(_is_over(folder, t) for t in trials))
    parents = {trial.parent for trial in trials if trial.parent}
    try:
        for stage in (
            [trial for trial in trials if trial.id in parents],
            [trial for trial in trials if trial.id not in parents],
        ):
            # Seed by seed, so that what is done after an interruption can be compared.
            ready = [
                t
                for t in sorted(stage, key=lambda trial: trial.seed)
                if not _is_over(folder, t) and _can_start(folder, t, progress)
            ]
            if ready and not progress.interrupted:
                _run_stage(study, folder, ready, max_concurrent, progress)
    finally:
        export(folder)
    return _outcome(folder, trials, progress.errors)


def describe_study(study: Study, trials: Sequence[Trial], command: str) -> dict[str, Any]:
    """What ``study.json`` says.

    Args:
        study: The study.
        trials: All of it.
        command: With which it can be repeated.
    Returns:
        JSON values.
    """
    return {
        "name": study.name,
        "description": study.description,
        "scale": study.scale,
        "scale_note": study.scale_note,
        "tasks": [task.env for task in study.tasks],
        "methods": [method.name for method in study.methods],
        "settings": [DEFAULT, *(setting.name for setting in study.settings)],
        "trials": [trial.id for trial in trials],
        "command": command,
        "version": __version__,
        "git_revision": git_revision(),
    }


def _run_stage(
    study: Study,
    folder: Path,
    trials: Sequence[Trial],
    max_concurrent: int,
    progress: StudyProgress,
) -> None:
    """Run trials side by side, as far as there is room."""
    from ray import tune

    by_id = {trial.id: trial for trial in trials}

    def run(config: dict[str, Any]) -> None:
        run_trial(
            study.name, folder, by_id[config["trial"]], study.checkpoint_interval, tune.report
        )

    offline = all(trial.phase == OFFLINE for trial in trials)
    scheduler = None if offline else study.scheduler
    tuner = tune.Tuner(
        tune.with_resources(run, lambda c: trial_resources(study, by_id[c["trial"]])),
        param_space={"trial": tune.grid_search(list(by_id))},
        tune_config=tune.TuneConfig(
            metric="success_rate" if scheduler else None,
            mode="max" if scheduler else None,
            scheduler=scheduler,
            max_concurrent_trials=max_concurrent or None,
            trial_name_creator=_trial_id,
            trial_dirname_creator=_trial_id,
            reuse_actors=True,  # a new process imports for many seconds
        ),
        run_config=tune.RunConfig(
            name=f"{'offline' if offline else 'online'}-{time.strftime('%Y%m%d-%H%M%S')}",
            storage_path=str(folder / "tune"),
            verbose=0,
            callbacks=[progress],
        ),
    )
    tuner.fit()
    for name in progress.completed - set(progress.errors):
        if name in by_id and not is_trained(folder, by_id[name]):
            write_json(trial_folder(folder, name) / STOPPED, {"scheduler": repr(scheduler)})
    progress.interrupted = any(
        not _is_over(folder, trial) and trial.id not in progress.errors for trial in trials
    )


def trial_resources(study: Study, trial: Trial) -> Any:
    """What RLlib asks for, with the study's CPUs for the trial's own process.

    Args:
        study: The study.
        trial: One of its trials.
    Returns:
        ``tune.PlacementGroupFactory``.
    """
    from ray import tune

    config = trial.config()
    assert config.algo_class is not None
    bundles = [dict(b) for b in config.algo_class.default_resource_request(config).bundles]
    bundles[0]["CPU"] = study.cpus_per_trial
    return tune.PlacementGroupFactory(bundles)


def _trial_id(trial: Any) -> str:
    return str(trial.config["trial"])


def _is_over(folder: Path, trial: Trial) -> bool:
    return is_complete(folder, trial) or (trial_folder(folder, trial.id) / STOPPED).is_file()


def _can_start(folder: Path, trial: Trial, progress: StudyProgress) -> bool:
    return not trial.parent or (trial_folder(folder, trial.parent) / CHECKPOINT).is_dir()


def _outcome(folder: Path, trials: Sequence[Trial], errors: Mapping[str, str]) -> Outcome:
    remaining = [trial for trial in trials if not _is_over(folder, trial)]
    failed = {trial.id: errors[trial.id] for trial in remaining if trial.id in errors}
    blocked = [t.id for t in remaining if t.parent in failed and t.id not in failed]
    known = {*failed, *blocked}
    finished = sum(is_complete(folder, trial) for trial in trials)
    return Outcome(
        total=len(trials),
        finished=finished,
        stopped=len(trials) - len(remaining) - finished,
        failed=failed,
        blocked=blocked,
        unfinished=[trial.id for trial in remaining if trial.id not in known],
    )
