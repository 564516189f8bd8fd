"""The kinds of kills: which process, and when."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.chaos.jobs import Job, JobError, title, wait_until

OFFLINE, ONLINE = "offline", "online"
PATIENCE_S = 600.0
"""How long a job may stand still."""
SAVING = "while a checkpoint is written"
SAMPLING = "while sampling"
BETWEEN = "between two rounds"
_LONGEST_DELAY_S = {"": 0.5, SAVING: 0.15, SAMPLING: 0.1, BETWEEN: 0.0}
_MISSES = 50
"""How often a moment may be over before the process stands still."""
ACTORS = {
    "trial": r"::FMQ\b",
    "learner": "_WrappedExecutable|_RayTrainWorker",  # idle, and in a call
    "env-runner": "EnvRunner",
}
"""What Ray calls their processes: patterns."""


@dataclass(frozen=True)
class Kill:
    """One kind of kill."""

    victim: str
    """"driver" (the command itself), "trial", "learner" or "env-runner"."""
    phase: str
    moment: str = ""
    """SAVING, SAMPLING, BETWEEN; empty: any."""

    @property
    def kind(self) -> str:
        """Its name in the table."""
        moment = f", {self.moment}" if self.moment else ""
        return f"{self.victim}, {self.phase}{moment}"


@dataclass(frozen=True)
class Done:
    """What a kill hit."""

    pid: int
    delay_s: float
    iterations: int
    """Results that the trial had reported."""
    left_over: list[str]
    """Files of an unfinished checkpoint that were there when the process died."""


def carry_out(
    kill: Kill, job: Job, chance: random.Random, killed: Collection[int] = ()
) -> Done | None:
    """Wait for the moment, and kill.

    Where the moment is a short one, processes are stopped, it is looked whether it still is the
    moment, and if not they go on until the next one.

    Args:
        kill: Which.
        job: Runs.
        chance: For the delay, and the choice among several processes.
        killed: Process ids of the env-runners that were killed before.
    Returns:
        None where the phase was over first.
    Raises:
        JobError: If the job stands still or fails meanwhile.
    """
    for _ in wait_until(PATIENCE_S):
        phase = phase_of(job)
        if phase == kill.phase:
            break
        if not job.running() or (kill.phase, phase) == (OFFLINE, ONLINE):
            return None
    victims = _victims(kill, job, killed)
    if not victims:
        return None
    victim = chance.choice(victims)
    for misses in range(_MISSES):
        known = set(job.unfinished())  # earlier kills left some, which nobody will finish
        if not _await_moment(kill, job, victim, known):
            return None
        # Shorter each time: how long a moment lasts depends on the machine.
        delay = chance.uniform(0.0, _LONGEST_DELAY_S[kill.moment] * 0.8**misses)
        time.sleep(delay)
        iterations = len(job.results())
        with _standing_still(_to_stop(kill, job, victim)):
            left_over = [name for name in job.unfinished() if name not in known]
            if not job.running() or phase_of(job) != kill.phase or not victim.is_running():
                return None
            if _is_moment(kill, victim, left_over):
                _strike(kill, job, victim)
                return Done(victim.pid, delay, iterations, left_over)
    raise JobError(f"{_MISSES} times the moment of {kill.kind!r} was over too soon")


def phase_of(job: Job) -> str:
    """The phase that the job's next iteration belongs to; empty before the first is over."""
    results = job.results()
    if not results:
        return ""
    if results[-1].get("done"):
        return "over"
    return ONLINE if results[-1]["phase"] == ONLINE or _offline_is_over(job, results) else OFFLINE


def _offline_is_over(job: Job, results: list[dict[str, object]]) -> bool:
    updates = results[-1].get("num_updates", results[-1].get("update"))
    return updates == job.offline_updates


def working_runners(job: Job, killed: Collection[int], phase: str) -> list[psutil.Process]:
    """Env-runners that live; online only those that have stepped their environments.

    Args:
        job: Runs.
        killed: Process ids of those that were killed.
        phase: Of the kill.
    """
    found = [runner for runner in job.actors(ACTORS["env-runner"]) if runner.pid not in killed]
    return [runner for runner in found if phase == OFFLINE or _logged(job.logs, runner.pid)]


def _victims(kill: Kill, job: Job, killed: Collection[int]) -> list[psutil.Process]:
    if kill.victim == "driver":
        return [job.driver]
    for _ in wait_until(PATIENCE_S):
        if not job.running():
            return []
        if kill.victim == "env-runner":
            found = working_runners(job, killed, kill.phase)
        else:
            found = job.actors(ACTORS[kill.victim])
        if found:
            return found
    raise JobError(f"no {kill.victim} was found")


def _to_stop(kill: Kill, job: Job, victim: psutil.Process) -> list[psutil.Process]:
    """Whoever must stand still, so that the moment lasts until the kill."""
    if kill.moment == SAVING:
        # The trial writes; learners do at its request.
        return job.actors("") if kill.victim == "driver" else job.actors(ACTORS["trial"])
    return [victim] if kill.moment else []


def _strike(kill: Kill, job: Job, victim: psutil.Process) -> None:
    if kill.victim != "driver":
        victim.kill()
        return
    writers = _to_stop(kill, job, victim)
    job.kill_driver()
    for process in writers:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _await_moment(kill: Kill, job: Job, victim: psutil.Process, known: set[str]) -> bool:
    """Until it has come; False if the job ended first."""
    if kill.moment == SAVING:
        return _poll(job, lambda: not known >= set(job.unfinished()))
    if kill.moment in (SAMPLING, BETWEEN):
        before = _logged(job.logs, victim.pid)
        steps_again = _poll(job, lambda: _logged(job.logs, victim.pid) > before)
        return steps_again and (kill.moment == SAMPLING or _poll(job, lambda: _is_idle(victim)))
    return job.running()


def _is_moment(kill: Kill, victim: psutil.Process, left_over: list[str]) -> bool:
    if kill.moment == SAVING:
        return bool(left_over)
    if kill.moment in (SAMPLING, BETWEEN):
        return _is_idle(victim) == (kill.moment == BETWEEN)
    return True


def _is_idle(actor: psutil.Process) -> bool:
    """Whether an actor waits for a call: Ray's title of a process names the call that it is in."""
    return "." not in title(actor)


@contextmanager
def _standing_still(processes: list[psutil.Process]) -> Iterator[None]:
    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        for process in processes:
            _await_stop(process)
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def _await_stop(process: psutil.Process) -> None:
    over = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    for _ in wait_until(PATIENCE_S, poll=0.001):
        try:
            if process.status() in over:
                return
        except psutil.NoSuchProcess:
            return


def _poll(job: Job, condition: Callable[[], object]) -> bool:
    for _ in wait_until(PATIENCE_S, poll=0.005):
        if condition():
            return True
        if not job.running():
            return False
    return False


def _logged(logs: Path, pid: int) -> int:
    return sum(path.stat().st_size for path in logs.glob(f"{pid}-*.steps"))
