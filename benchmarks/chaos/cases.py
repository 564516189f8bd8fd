"""Jobs with their kills, and the verdict on each.

A job with a local env-runner has to end bit for bit as one that nobody killed: networks, optimiser,
counters, generators, replay. With remote env-runners the replay is compared with what the
environments logged.
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.chaos.checks import Row, account, differences, read_replay, read_state
from benchmarks.chaos.environment import ENVIRONMENT, write_dataset
from benchmarks.chaos.jobs import Job, JobError, wait_until
from benchmarks.chaos.kills import (
    BETWEEN,
    OFFLINE,
    ONLINE,
    PATIENCE_S,
    SAMPLING,
    SAVING,
    Done,
    Kill,
    carry_out,
    working_runners,
)
from rllib_fmq.studies.trial_run import git_revision

FRAGMENT, ENVS = 7, 2
_REFERENCES = Lock()
_LONGEST_JOB_S = 1800.0
_CONFIG: dict[str, Any] = {
    "seed": 3,
    "horizon_length": 5,
    "actor_hidden": [8],
    "critic_hidden": [8],
    "num_candidates": 2,
    "diagonal_warmup_updates": 2,
    "interval_anneal_end": 30,
    "train_batch_size_per_learner": 8,
    "num_envs_per_env_runner": ENVS,
    "rollout_fragment_length": FRAGMENT,
    "offline_updates": 300,
    "updates_per_iteration": 10,
    "online_env_steps": 1_400,
    "utd_ratio": 10 / 28,
    "learning_starts": 4,
    "compile_updates": False,
    "learner_threads": 1,
}


@dataclass(frozen=True)
class Shape:
    """What a job is made of."""

    config: dict[str, Any] = field(default_factory=dict)
    step_seconds: float = 0.01
    study: bool = False
    runners: bool = False
    """Whether its env-runners are killed, of which there are two then."""
    reference: str = ""
    """Name of the shape whose uninterrupted job it has to equal bit for bit; empty: of none."""


LOCAL, STUDY, LEARNER, REMOTE, RUNNERS = "local", "study", "learner", "remote", "runners"
BOTH_PHASES = "runners-both-phases"
SHAPES = {
    LOCAL: Shape(reference=LOCAL),
    STUDY: Shape(study=True, reference=STUDY),
    LEARNER: Shape({"num_learners": 1}, reference=LOCAL),
    REMOTE: Shape({"num_env_runners": 1}),
    RUNNERS: Shape(
        {"num_env_runners": 2, "offline_updates": 10, "online_env_steps": 560},
        step_seconds=0.05,
        runners=True,
    ),
    BOTH_PHASES: Shape({"num_env_runners": 2}, step_seconds=0.02, runners=True),
}


@dataclass(frozen=True)
class Case:
    """A job and the kills that it has to survive, in this order."""

    name: str
    shape: str
    kills: tuple[Kill, ...]
    seed: int


_DRIVER = tuple(Kill("driver", phase, when) for phase in (OFFLINE, ONLINE) for when in ("", SAVING))
_LEARNER = tuple(
    Kill("learner", phase, when) for phase in (OFFLINE, ONLINE) for when in ("", SAVING)
)
_RUNNER = (Kill("env-runner", ONLINE, SAMPLING), Kill("env-runner", ONLINE, BETWEEN))
_RUNNER_IDLE = (Kill("env-runner", OFFLINE), Kill("env-runner", ONLINE, SAVING))
_TRIAL = Kill("trial", ONLINE)
_TRIALS = (
    *(Kill("trial", OFFLINE),) * 2,
    Kill("trial", OFFLINE, SAVING),
    Kill("trial", ONLINE, SAVING),
)


def plan(short: bool) -> list[Case]:
    """All cases: 71 kills, or the eight of the short version."""
    if short:
        kinds = [
            (LEARNER, (_DRIVER[0], _LEARNER[1], _LEARNER[2], _DRIVER[3])),
            (RUNNERS, _RUNNER * 2),
        ]
    else:
        several = [(LEARNER, _LEARNER), (RUNNERS, _RUNNER * 2), (LOCAL, (*_DRIVER, _TRIAL))]
        kinds = [*several, (REMOTE, _DRIVER[2:]), *several, (STUDY, _DRIVER[::2])]
        kinds += [*several, (REMOTE, _DRIVER[2:]), *several, several[2]]
        idle_runners = tuple(kill for kill in _RUNNER_IDLE for _ in range(2))
        kinds += [(BOTH_PHASES, idle_runners), (LOCAL, _TRIALS)]
    prefix = "short-" if short else ""
    return [
        Case(f"{prefix}{seed:02d}-{shape}", shape, kills, seed)
        for seed, (shape, kills) in enumerate(kinds)
    ]


def reference(shape: str, output: Path) -> Path:
    """Checkpoint of a shape's uninterrupted job, which is run if need be.

    Args:
        shape: Its name.
        output: Folder of the whole test.
    """
    with _REFERENCES:
        job = _job(shape, output, f"reference-{shape}")
        over = job.folder / "over"
        if not over.is_file():
            job.remove_files()
            job.start()
            _await_end(job)
            job.left_behind()
            over.touch()
        job.remove_scratch()
        return job.checkpoint()


def run(case: Case, output: Path) -> tuple[list[dict[str, Any]], str]:
    """Run a case.

    Args:
        case: Which.
        output: Folder of the whole test.
    Returns:
        For each kill what it was, whether all is well, and what was lost; and what was wrong with
        the job, "" if nothing was.
    """
    shape = SHAPES[case.shape]
    expected = reference(shape.reference, output) if shape.reference else None
    job = _job(case.shape, output, case.name)
    job.remove_files()
    kills = _Kills(case, job)
    problem = ""
    verdict: dict[str, Any] = {}
    try:
        job.start()
        for kill in case.kills:
            kills.carry_out(kill)
        kills.end()
        verdict = _verdict(case, job, kills, expected)
        problem = verdict.pop("problem")
    except Exception as error:  # a case that breaks must not end the others
        last = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"{type(error).__name__}: {error} ({last.name}) {job.last_words()}"
    if left := job.left_behind():
        problem += f" {len(left)} processes were left behind: {left}"
    job.remove_scratch()
    if not problem:
        job.remove_files()
    problem = problem.strip()
    records = [
        {
            "case": case.name,
            "git_revision": git_revision(),
            "kind": kill.kind,
            "pid": done.pid,
            "delay_s": round(done.delay_s, 3),
            "iteration": done.iterations,
            "left_over": done.left_over,
            "seconds": round(seconds, 1),
            "recovered": not problem,
            "problem": problem,
            **verdict,
        }
        for kill, done, seconds in kills.done
    ]
    return records, problem


class _Kills:
    """The kills of a job, and what is known before each of them."""

    def __init__(self, case: Case, job: Job) -> None:
        self.done: list[tuple[Kill, Done, float]] = []
        self.rows: set[Row] = set()
        """Of all checkpoints that the job was resumed from."""
        self._case, self._job = case, job
        self._chance = random.Random(case.seed)

    @property
    def killed_runners(self) -> list[int]:
        """Their process ids."""
        return [done.pid for kill, done, _ in self.done if kill.victim == "env-runner"]

    def number_of(self, *moments: str) -> int:
        """Kills of env-runners online, at some of their moments."""
        kills = [kill for kill, *_ in self.done if kill.victim == "env-runner"]
        return sum(kill.phase == ONLINE and kill.moment in moments for kill in kills)

    def carry_out(self, kill: Kill) -> None:
        """One of them, and wait until the job goes on."""
        job = self._job
        done = carry_out(kill, job, self._chance, self.killed_runners)
        if done is None:
            return
        started = time.monotonic()
        self.done.append((kill, done, 0.0))
        if kill.victim == "driver":
            self.rows |= _rows_of(job)
            job.resume()
        if kill.victim == "env-runner":
            self._await_runners(kill.phase)
        else:
            _poll(job, lambda: len(job.results()) > done.iterations)
        self.done[-1] = (kill, done, time.monotonic() - started)

    def _await_runners(self, phase: str) -> None:
        """Until both work again; not while one is left to be killed as well."""
        killed, job = self.killed_runners, self._job
        if len(killed) % 2 == 0:
            _poll(job, lambda: len(working_runners(job, killed, phase)) == 2)

    def end(self) -> None:
        """Let the job come to its end."""
        _await_end(self._job)


def _verdict(case: Case, job: Job, kills: _Kills, expected: Path | None) -> dict[str, Any]:
    checkpoint = job.checkpoint()
    sheet = account(checkpoint, job.logs, kills.killed_runners)
    rows = read_replay(checkpoint)
    lost = len(kills.rows - set(rows)) + sheet.gaps
    problems = []
    if sheet.foreign or sheet.duplicated or sheet.gaps:
        problems.append(str(sheet))
    if expected is not None:
        wanted = read_replay(expected)
        lost += len(set(wanted) - set(rows))
        if rows != wanted:
            problems.append("the replay is not that of the uninterrupted job")
        problems += differences(read_state(expected), read_state(checkpoint))[:3]
    counted = 0
    if SHAPES[case.shape].runners:
        lost += sheet.lost_elsewhere
        counted = int(job.results()[-1]["env_runners"]["num_fragments_lost"])
        # One that dies at another moment has lost nothing; it may be counted (docs/FAULTS.md),
        # but not one that dies offline, since a checkpoint is the first to notice it.
        least = ENVS * kills.number_of(SAMPLING)
        most = ENVS * kills.number_of(SAMPLING, BETWEEN, SAVING)
        if not max(least, sheet.lost_fragments) <= counted <= most:
            problems.append(f"num_fragments_lost={counted}, not {least} to {most}: {sheet}")
        # What was collected may be on its way while a runner waits, but not during a checkpoint.
        if sheet.lost_fragments > ENVS * kills.number_of(SAMPLING, BETWEEN):
            problems.append(f"a kill that should have cost nothing did: {sheet}")
        if sheet.longest_lost > FRAGMENT + 1:
            problems.append(f"more than a fragment was lost: {sheet}")
    final = job.results()[-1]
    if case.shape == REMOTE and final["env_runners"]["num_episodes_not_resumed"]:
        problems.append("unfinished episodes did not go on")
    if not SHAPES[case.shape].study and sheet.rows != final["num_online_env_steps"]:
        problems.append(f"num_online_env_steps={final['num_online_env_steps']}: {sheet}")
    if lost:
        problems.append(f"{lost} transitions are lost")
    return {
        "lost": lost,
        "duplicated": sheet.duplicated,
        "rows": sheet.rows,
        "num_fragments_lost": counted,
        "steps_in_lost_fragments": sheet.lost_in_them,
        "problem": "; ".join(problems),
    }


def job_config(shape: str) -> dict[str, Any]:
    """Keys of a shape's jobs, ``env_config`` aside.

    Args:
        shape: Its name.
    """
    return _CONFIG | SHAPES[shape].config


def _job(shape: str, output: Path, name: str) -> Job:
    given = SHAPES[shape]
    folder = output / name
    config = job_config(shape)
    if given.study:
        del config["seed"]  # a study has seeds of its own
    config["env_config"] = {"log": str(folder / "log"), "step_seconds": given.step_seconds}
    dataset = output / "drift.npz"
    if not dataset.is_file():
        output.mkdir(parents=True, exist_ok=True)
        write_dataset(dataset)
    return Job(folder, config, ENVIRONMENT, dataset, study=given.study)


def _rows_of(job: Job) -> set[Row]:
    for _ in range(5):
        try:
            return set(read_replay(job.checkpoint()))
        except (FileNotFoundError, ValueError):  # what is left of the job is still writing
            time.sleep(0.5)
    if job.results():
        raise JobError("the job has reported iterations, and its checkpoint cannot be read")
    return set()


def _poll(job: Job, condition: Callable[[], bool]) -> None:
    for _ in wait_until(PATIENCE_S, poll=0.1):
        if condition() or not job.running():
            return


def _await_end(job: Job) -> None:
    for _ in wait_until(_LONGEST_JOB_S, poll=0.2):
        if not job.running():
            break
        job.actors("")  # remembers the processes that there are
    if job.exit_code() != 0:
        raise JobError(f"the job ended with exit code {job.exit_code()}")
