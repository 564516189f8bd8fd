"""What a study is: tasks x methods x settings x seeds, and how each is run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rllib_fmq.python_files import run_python_file

if TYPE_CHECKING:
    from rllib_fmq.algorithms.selectors import SelectorChoice

DEFAULT = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=, -]*")


@dataclass(frozen=True)
class StudyTask:
    """One environment and its dataset.

    Args:
        env: Name of a task, or any environment that ``rllib train --env`` takes.
        dataset: As in ``FlowMapConfig.offline_data``; "auto" looks in ``--dataset-dir`` first.
        seeds: Of this task; None: the study's.
        config: Config keys of this task's trials, on top of the study's.
        final_episodes: Of this task; None: the study's.
        final_selectors: Which of the methods' ``final_selectors`` are used here; None: all.
    """

    env: str
    dataset: str | None = "auto"
    seeds: Sequence[int] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    final_episodes: int | None = None
    final_selectors: Sequence[SelectorChoice] | None = None


@dataclass(frozen=True)
class Method:
    """One of the methods that are compared.

    Args:
        name: As tables and legends show it.
        algorithm: "FMQ", "QGBS", "MVP" or "QC"; None: ``name``.
        config: Config keys of this method's trials, on top of the task's.
        final_selectors: How the trained policy is evaluated once more in the end, beside its own
            evaluation selector: names or dicts, as ``evaluation_selector`` takes them. FMQ with
            QGBS, as in the paper, is ``Method("FMQ", final_selectors=("qgbs",))``.
    """

    name: str
    algorithm: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    final_selectors: Sequence[SelectorChoice] = ()


@dataclass(frozen=True)
class Setting:
    """A variation of some methods, beside the one without any, which is called "default".

    Args:
        name: As tables show it, such as "eta=0.3".
        config: Config keys, on top of the method's.
        methods: Names of the methods it is run with; None: all.
        tasks: Names of the tasks it is run on; None: all.
        seeds: Its seeds; None: the task's.
        final_selectors: Which of the methods' ``final_selectors`` are used here; None: those that
            the task uses.
    """

    name: str
    config: Mapping[str, Any]
    methods: Sequence[str] | None = None
    tasks: Sequence[str] | None = None
    seeds: Sequence[int] | None = None
    final_selectors: Sequence[SelectorChoice] | None = None


@dataclass(frozen=True)
class Study:
    """A comparison: each method with each setting on each task with each seed is one trial.

    Later ones of ``config``, the task's, the method's and the setting's keys go before earlier
    ones. Methods whose settings agree in all that acts offline share the offline phase of a task
    and seed: it is trained once, and the online phases start from its checkpoint.

    Args:
        name: Of the study; a folder of that name holds everything.
        tasks: At least one.
        methods: At least one.
        seeds: Of each task that names none of its own.
        config: Config keys of all trials; see docs/CONFIG.md. Budgets and evaluation are the
            same for all methods unless a method's own config says otherwise.
        settings: Variations; the default one always runs.
        final_episodes: Episodes of each evaluation in the end, on seeds that neither training nor
            its evaluations have seen.
        description: One sentence: which question this answers.
        scale: "paper" where networks, updates, steps, data and N are the paper's; else "reduced".
        scale_note: What is smaller than in the paper, in plain words.
        checkpoint_interval: Iterations between two checkpoints of a trial, from which it goes on
            when it was interrupted.
        cpus_per_trial: CPUs that Tune reserves for a trial beside its runners and learners.
        scheduler: Scheduler of Ray Tune that stops online trials which fall behind, such as
            ``ASHAScheduler(time_attr="num_online_env_steps", max_t=..., grace_period=...)``. It
            hears of each evaluation: ``success_rate``, ``num_online_env_steps``. Trials of one
            task compete, those of different tasks do not. None: every trial runs to its end.
    """

    name: str
    tasks: Sequence[StudyTask]
    methods: Sequence[Method]
    seeds: Sequence[int]
    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Sequence[Setting] = ()
    final_episodes: int = 50
    description: str = ""
    scale: Literal["paper", "reduced"] = "reduced"
    scale_note: str = ""
    checkpoint_interval: int = 10
    cpus_per_trial: float = 1
    scheduler: Any = None

    def check(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ValueError: Names the value, what was expected and what to do.
        """
        _check_name("study", self.name)
        for what, parts, kind in (
            ("tasks", self.tasks, StudyTask),
            ("methods", self.methods, Method),
            ("settings", self.settings, Setting),
        ):
            for part in parts:
                if not isinstance(part, kind):
                    raise ValueError(
                        f"study {self.name!r}: {part!r} among its {what}: expected a "
                        f"{kind.__name__}(...)."
                    )
        self._check_names()
        for setting in self.settings:
            self._check_setting(setting)
        configs = [task.config for task in self.tasks] + [m.config for m in self.methods]
        for config in (self.config, *configs, *(setting.config for setting in self.settings)):
            _check_config(self.name, config)
        own = [task.seeds for task in self.tasks] + [setting.seeds for setting in self.settings]
        for seeds in (self.seeds, *(seeds for seeds in own if seeds is not None)):
            _check_seeds(self.name, seeds)
        self._check_numbers()
        if self.scale not in ("paper", "reduced"):
            raise ValueError(f"study {self.name!r}: scale={self.scale!r}: 'paper' or 'reduced'.")
        if self.scheduler is not None and not hasattr(self.scheduler, "on_trial_result"):
            raise ValueError(
                f"study {self.name!r}: scheduler={self.scheduler!r}: expected a scheduler of Ray "
                "Tune, such as ASHAScheduler(...)."
            )

    def _check_names(self) -> None:
        for what, names in (
            ("tasks", [t.env for t in self.tasks]),
            ("methods", [m.name for m in self.methods]),
            ("settings", [DEFAULT, *(s.name for s in self.settings)]),
        ):
            if not names:
                raise ValueError(f"study {self.name!r} has no {what}: name at least one.")
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"study {self.name!r} names {twice[0]!r} twice among its {what}.")
        for method in self.methods:
            _check_name("method", method.name)

    def _check_numbers(self) -> None:
        episodes = [t.final_episodes for t in self.tasks if t.final_episodes is not None]
        for key, value in (
            ("final_episodes", self.final_episodes),
            *(("final_episodes", number) for number in episodes),
            ("checkpoint_interval", self.checkpoint_interval),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"study {self.name!r}: {key}={value!r}: expected a whole number >= 1."
                )
        cpus = self.cpus_per_trial
        if not isinstance(cpus, int | float) or not 0 < cpus < math.inf:
            raise ValueError(
                f"study {self.name!r}: cpus_per_trial={self.cpus_per_trial!r}: must be > 0."
            )

    def _check_setting(self, setting: Setting) -> None:
        _check_name("setting", setting.name)
        for what, given, known in (
            ("method", setting.methods, [m.name for m in self.methods]),
            ("task", setting.tasks, [t.env for t in self.tasks]),
        ):
            for name in given or ():
                if name not in known:
                    raise ValueError(
                        f"setting {setting.name!r} names the {what} {name!r}, which the study does "
                        f"not have: {', '.join(known)}."
                    )


def load_study(path: Path) -> Study:
    """Run a Python file that defines ``study``.

    Args:
        path: The file; it is run as code.
    Returns:
        Its ``study``, checked.
    Raises:
        ValueError: If the file is missing, fails, or defines no valid study.
    """
    module = run_python_file(path, "rllib_study_file")
    study = getattr(module, "study", None)
    if not isinstance(study, Study):
        raise ValueError(
            f"{path} defines {'no `study`' if study is None else f'`study` = {study!r}'}: expected "
            "a rllib_fmq.studies.Study, such as `study = Study(name=..., tasks=[...], ...)`."
        )
    study.check()
    return study


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} name {name!r}: use letters, digits and . _ + = , - and blanks; folders and "
            "figures are called after it."
        )


_FIELDS = {
    "env": "StudyTask(env)",
    "seed": "the study's, task's or setting's `seeds`",
    "dataset_dir": "--dataset-dir",
}


def _check_config(study: str, config: Mapping[str, Any]) -> None:
    if not isinstance(config, Mapping):
        raise ValueError(f"study {study!r}: config={config!r}: expected a dict of config keys.")
    for key, instead in _FIELDS.items():
        if key in config:
            raise ValueError(f"study {study!r}: {key!r} in a `config`: name it in {instead}.")


def _check_seeds(study: str, seeds: Sequence[int]) -> None:
    try:
        values = list(seeds)
    except TypeError:
        values = []
    whole = all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in values)
    if not values or not whole or len(set(values)) < len(values):
        raise ValueError(
            f"study {study!r}: seeds={seeds!r}: expected different whole numbers >= 0, such as "
            "range(5)."
        )
