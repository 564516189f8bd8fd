"""Runs what is missing of a study, on Ray Tune."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_fmq._version import __version__
from rllib_fmq.algorithms.paths import AUTO, MINARI
from rllib_fmq.studies.definition import DEFAULT, Study
from rllib_fmq.studies.locks import locked
from rllib_fmq.studies.progress import StudyProgress
from rllib_fmq.studies.store import INFO, check_table_is_ours, export, write_json
from rllib_fmq.studies.trial_run import (
    git_revision,
    is_complete,
    is_trained,
    parent_error,
    run_trial,
    trial_folder,
)
from rllib_fmq.studies.trials import OFFLINE, ONLINE, Trial, choose_trials, plan_trials

STOPPED = "stopped.json"
"""Left by a trial that a scheduler stopped before its end."""


@dataclass(frozen=True)
class Outcome:
    """What is done of a study, and what is not."""

    total: int
    """Trials that were asked for."""
    finished: int
    """Complete trials, those of earlier runs included."""
    stopped: int
    """Trials that the scheduler stopped early."""
    failed: Mapping[str, str]
    """Trial -> error, one line."""
    blocked: Mapping[str, str]
    """Trial -> why it cannot start from its offline phase."""
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
        ValueError: If the study or one of its configs is wrong, a dataset is missing, the folder
            holds a table that would be replaced, or another process runs the study in it;
            nothing is run then.
    """
    study.check()
    planned = plan_trials(study, dataset_dir)
    trials = choose_trials(planned, only)
    check_datasets(trials)
    folder = folder.expanduser().resolve()
    check_table_is_ours(folder)
    with locked(folder, f"study {study.name!r}"):
        write_json(folder / INFO, describe_study(study, planned, command))
        progress = StudyProgress(len(trials), say)
        progress.begin(sum(is_over(study, folder, t) for t in trials))
        try:
            for stage in stages(trials):
                if not progress.interrupted:
                    _run_stage(study, folder, stage, max_concurrent, progress)
        finally:
            export(folder)
        return _outcome(study, folder, trials, progress)


def stages(trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial]]:
    """Offline phases, then what starts from them.

    Seed by seed, so that what is done after an interruption can be compared.

    Args:
        trials: Of a study.
    Returns:
        Two lists of trials in the order in which they start.
    """
    parents = {trial.parent for trial in trials if trial.parent}
    ordered = sorted(trials, key=lambda trial: trial.seed)
    first = [trial for trial in ordered if trial.id in parents]
    return first, [trial for trial in ordered if trial.id not in parents]


def batches(study: Study, stage: Sequence[Trial]) -> list[list[Trial]]:
    """Which trials of a stage run side by side: all, unless a scheduler compares them.

    Success on an easy task says nothing of a hard one, so that each has a scheduler of its own.
    What has no online phase is not compared, and goes first.

    Args:
        study: The study.
        stage: From ``stages``, or a part of one.
    Returns:
        Lists of trials; one starts when the one before has ended.
    """
    if study.scheduler is None:
        return [list(stage)] if stage else []
    online = [trial for trial in stage if trial.phase != OFFLINE]
    found = [[trial for trial in stage if trial.phase == OFFLINE]]
    for task in dict.fromkeys(trial.task for trial in online):
        found.append([trial for trial in online if trial.task == task])
    return [batch for batch in found if batch]


def check_datasets(trials: Sequence[Trial]) -> None:
    """Refuse trials whose dataset is not there.

    Args:
        trials: Of a study.
    Raises:
        ValueError: Names the task and the dataset.
    """
    for trial in trials:
        dataset = trial.values["dataset"]
        named = isinstance(dataset, str) and dataset != AUTO and not dataset.startswith(MINARI)
        if named and not Path(dataset).exists():
            raise ValueError(
                f"{trial.task}: dataset {dataset} does not exist; name the folder that holds it "
                "with --dataset-dir, or leave such trials out with --only."
            )


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
        "parents": {
            trial.id: trial.method for trial in trials if trial.id in {t.parent for t in trials}
        },
        "command": command,
        "version": __version__,
        "git_revision": git_revision(),
    }


def _run_stage(
    study: Study,
    folder: Path,
    stage: Sequence[Trial],
    max_concurrent: int,
    progress: StudyProgress,
) -> None:
    ready = [
        trial
        for trial in stage
        if not is_over(study, folder, trial) and not _start_error(folder, trial)
    ]
    for trials in batches(study, ready):
        judged = any(trial.phase != OFFLINE for trial in trials)
        scheduler = copy.deepcopy(study.scheduler) if judged else None
        if not progress.interrupted:
            _run_trials(study, folder, trials, scheduler, max_concurrent, progress)


def _run_trials(
    study: Study,
    folder: Path,
    trials: Sequence[Trial],
    scheduler: Any,
    max_concurrent: int,
    progress: StudyProgress,
) -> None:
    """Run trials side by side, as far as there is room."""
    from ray import tune

    from rllib_fmq.tune_memory import bounded_tune_memory

    if not trials:
        return
    by_id = {trial.id: trial for trial in trials}
    name, interval = study.name, study.checkpoint_interval

    def run(config: dict[str, Any]) -> None:
        run_trial(name, folder, by_id[config["trial"]], interval, tune.report)

    judged = scheduler is not None and getattr(scheduler, "metric", None) is None
    stage = OFFLINE if all(trial.phase == OFFLINE for trial in trials) else ONLINE
    tuner = tune.Tuner(
        tune.with_resources(run, lambda c: trial_resources(study, by_id[c["trial"]])),
        param_space={"trial": tune.grid_search(list(by_id))},
        tune_config=tune.TuneConfig(
            metric="success_rate" if judged else None,
            mode="max" if judged else None,
            scheduler=scheduler,
            max_concurrent_trials=max_concurrent or None,
            trial_name_creator=_trial_id,
            trial_dirname_creator=_trial_id,
            reuse_actors=True,  # a new process imports for many seconds
        ),
        run_config=tune.RunConfig(
            name=f"{stage}-{time.strftime('%Y%m%d-%H%M%S')}-{trials[0].id[-12:]}",
            storage_path=str(folder / "tune"),
            verbose=0,
            callbacks=[progress],
        ),
    )
    with bounded_tune_memory():
        tuner.fit()
    for trial in trials:
        ended = trial.id in progress.completed and trial.id not in progress.errors
        if ended and not is_trained(folder, trial):
            write_json(trial_folder(folder, trial.id) / STOPPED, {"stopped_by": "scheduler"})
    progress.interrupted = any(
        not is_over(study, folder, trial) and trial.id not in progress.errors for trial in trials
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
    request = config.algo_class.default_resource_request(config)
    bundles = [dict(bundle) for bundle in request.bundles]
    bundles[0]["CPU"] = study.cpus_per_trial
    return tune.PlacementGroupFactory(bundles, strategy=request.strategy)


def _trial_id(trial: Any) -> str:
    return str(trial.config["trial"])


def is_over(study: Study, folder: Path, trial: Trial) -> bool:
    """Whether a trial is complete, or was stopped by the study's scheduler.

    Args:
        study: The study.
        folder: Of its results.
        trial: One of its trials.
    """
    stopped = study.scheduler is not None and (trial_folder(folder, trial.id) / STOPPED).is_file()
    return stopped or is_complete(folder, trial)


def _start_error(folder: Path, trial: Trial) -> str:
    """Why a trial cannot start; what only lacks evaluations needs no parent."""
    return "" if is_trained(folder, trial) else parent_error(folder, trial)


def _outcome(
    study: Study, folder: Path, trials: Sequence[Trial], progress: StudyProgress
) -> Outcome:
    finished = sum(is_complete(folder, trial) for trial in trials)
    remaining = [trial for trial in trials if not is_over(study, folder, trial)]
    failed = {t.id: progress.errors[t.id] for t in remaining if t.id in progress.errors}
    blocked = {
        trial.id: error
        for trial in remaining
        if trial.id not in failed
        and (not progress.interrupted or trial.parent in failed)
        and (error := _start_error(folder, trial))
    }
    return Outcome(
        total=len(trials),
        finished=finished,
        stopped=len(trials) - len(remaining) - finished,
        failed=failed,
        blocked=blocked,
        unfinished=[t.id for t in remaining if t.id not in failed and t.id not in blocked],
    )
