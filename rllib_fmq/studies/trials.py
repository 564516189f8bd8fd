"""From a study to its trials: what shares an offline phase, and what each trial is called."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.algorithms.paths import AUTO, MINARI
from rllib_fmq.studies.definition import DEFAULT, Method, Setting, Study, StudyTask
from rllib_fmq.studies.identity import full_config, make_config, offline_key
from rllib_fmq.studies.store import config_id, methods_label

OFFLINE, ONLINE = "offline", "online"


@dataclass(frozen=True)
class Trial:
    """One unit of work: an offline phase, an online phase that starts from one, or both."""

    id: str
    """Unique; equal for equal work, so that a second start finds what was done."""
    parent: str
    """Trial whose checkpoint it starts from, or ""."""
    phase: str
    """The phase that it ends with: "offline" or "online"."""
    task: str
    method: str
    """For an offline phase that several methods start from, such as "FMQ/MVP"."""
    setting: str
    seed: int
    algorithm: str
    values: Mapping[str, Any]
    """What the study sets; all else is the algorithm's default."""
    selectors: tuple[Mapping[str, Any], ...]
    """Full settings of each selector that the trained policy is evaluated with in the end."""
    final_episodes: int

    def config(self, initial_checkpoint: str | None = None) -> FlowMapConfig:
        """Its config.

        Args:
            initial_checkpoint: Of its parent.
        Returns:
            A new config, checked.
        Raises:
            ValueError: If a key or a value is wrong.
        """
        values = dict(self.values)
        if initial_checkpoint is not None:
            values |= {"initial_checkpoint": initial_checkpoint, "offline_updates": 0}
        return make_config(self.algorithm, values)


def plan_trials(study: Study, dataset_dir: Path | None = None) -> list[Trial]:
    """All trials of a study, offline phases first.

    Args:
        study: Checked.
        dataset_dir: Where datasets are looked for first.
    Returns:
        Trials; each one's parent comes before it.
    Raises:
        ValueError: If a trial's config is wrong; it says which trial's.
    """
    offline: dict[str, Trial] = {}
    sharing: dict[str, list[str]] = {}
    online: list[Trial] = []
    for task in study.tasks:
        for method in study.methods:
            for setting, seeds in _settings(study, task, method):
                for seed in seeds:
                    whole = _whole_trial(study, task, method, setting, seed, dataset_dir)
                    config = whole.config()
                    if config.offline_updates == 0 or config.online_env_steps == 0:
                        online.append(whole)  # nothing to share
                        continue
                    share = offline_key(config)
                    parent = offline.get(share) or _offline_trial(whole, config)
                    new = () if whole.selectors[0] in parent.selectors else whole.selectors[:1]
                    offline[share] = dataclasses.replace(parent, selectors=parent.selectors + new)
                    sharing.setdefault(share, []).append(method.name)
                    online.append(_named(whole, parent.id))
    parents = [
        dataclasses.replace(trial, method=methods_label(sharing[key]))
        for key, trial in offline.items()
    ]
    return [*parents, *online]


def choose_trials(trials: Sequence[Trial], only: Sequence[str]) -> list[Trial]:
    """Those trials whose names hold all of the given texts, and what they start from.

    Args:
        trials: From ``plan_trials``.
        only: Parts of names, such as "task2" and "-s0-"; none: all trials.
    Returns:
        The chosen ones, in order.
    Raises:
        ValueError: If no trial is left.
    """
    chosen = {trial.id for trial in trials if all(text in trial.id for text in only)}
    if not chosen:
        raise ValueError(
            f"no trial's name holds {' and '.join(map(repr, only))}: list the names with "
            "`rllib study run FILE --dry-run`."
        )
    chosen |= {trial.parent for trial in trials if trial.id in chosen}
    return [trial for trial in trials if trial.id in chosen]


def _settings(
    study: Study, task: StudyTask, method: Method
) -> list[tuple[Setting | None, Sequence[int]]]:
    seeds = study.seeds if task.seeds is None else task.seeds
    chosen: list[tuple[Setting | None, Sequence[int]]] = [(None, seeds)]
    for setting in study.settings:
        if setting.methods is not None and method.name not in setting.methods:
            continue
        if setting.tasks is None or task.env in setting.tasks:
            chosen.append((setting, seeds if setting.seeds is None else setting.seeds))
    return chosen


def _whole_trial(
    study: Study,
    task: StudyTask,
    method: Method,
    setting: Setting | None,
    seed: int,
    dataset_dir: Path | None,
) -> Trial:
    """The trial as it would be if it did both phases itself."""
    values: dict[str, Any] = {
        **study.config,
        "dataset": task.dataset,
        **task.config,
        **method.config,
        **(setting.config if setting else {}),
        "env": task.env,
        "seed": seed,
    }
    values["dataset"] = _dataset(values["dataset"], dataset_dir)
    if dataset_dir is not None:
        values["dataset_dir"] = str(dataset_dir.resolve())
    algorithm = method.algorithm or method.name
    try:
        json.dumps(values)
        config = make_config(algorithm, values)
        selectors = _final_selectors(config, task, method, setting)
    except (TypeError, ValueError) as error:
        where = f"{task.env}, {method.name}{f', {setting.name}' if setting else ''}, seed {seed}"
        raise ValueError(f"study {study.name!r} ({where}): {error}") from error
    episodes = study.final_episodes if task.final_episodes is None else task.final_episodes
    trial = Trial(
        "",
        "",
        ONLINE if config.online_env_steps else OFFLINE,
        task.env,
        method.name,
        setting.name if setting else DEFAULT,
        seed,
        algorithm,
        values,
        selectors,
        episodes,
    )
    return _named(trial, "")


def _offline_trial(whole: Trial, config: FlowMapConfig) -> Trial:
    values = {k: v for k, v in whole.values.items() if k != "online_env_steps"}
    trial = dataclasses.replace(
        whole,
        phase=OFFLINE,
        values=values | {"online_env_steps": 0},
        selectors=whole.selectors[:1],  # the method's own
    )
    shared = offline_key(config)
    name = f"{OFFLINE}-{_slug(whole.task)}-s{whole.seed}-{config_id({'offline': shared})}"
    return dataclasses.replace(trial, id=name)


def _named(trial: Trial, parent: str) -> Trial:
    digest = config_id(full_config(trial.config()) | {"parent": parent})
    what = "-".join(_slug(text) for text in (trial.task, trial.method, trial.setting))
    name = f"{trial.phase}-{what}-s{trial.seed}-{digest}"
    return dataclasses.replace(trial, id=name, parent=parent)


def _final_selectors(
    config: FlowMapConfig, task: StudyTask, method: Method, setting: Setting | None
) -> tuple[Mapping[str, Any], ...]:
    chosen: list[Mapping[str, Any]] = []
    extra = list(method.final_selectors)
    for part in (task, setting):
        if part is not None and part.final_selectors is not None:
            extra = [choice for choice in extra if choice in part.final_selectors]
    for choice in (config.evaluation_selector, *extra):
        probe = config.copy(copy_frozen=False)
        probe.evaluation_selector = choice
        settings = dataclasses.asdict(probe.selector("evaluation"))
        if settings not in chosen:
            chosen.append(settings)
    return tuple(chosen)


def _dataset(dataset: str | None, folder: Path | None) -> str | None:
    if dataset is None or dataset == AUTO or dataset.startswith(MINARI):
        return dataset
    if folder is not None and (folder / dataset).exists():
        return str((folder / dataset).resolve())
    return str(Path(dataset).expanduser().resolve())


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=+]+", "-", text).strip("-")
