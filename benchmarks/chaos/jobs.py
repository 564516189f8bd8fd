"""A job of ours, started and resumed by the documented commands, and its processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from rllib_fmq.checkpointing.find import find_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
_STUDY = """from rllib_fmq.studies import Method, Study, StudyTask
study = Study(
    name="chaos",
    tasks=[StudyTask({env!r}, {dataset!r})],
    methods=[Method("FMQ")],
    seeds=(0,),
    config={config!r},
    final_episodes=1,
    checkpoint_interval=1,
)
"""


# Ray itself: on a busy machine its 30 s, which no setting changes, are too few.
_RAY_DID_NOT_START = "timed out during startup"
_TEMPORARY = re.compile(r"\.partial-|^tmp[a-z0-9_]{8}$")


class JobError(RuntimeError):
    """A job ended, or stood still, when it should not have."""


class Job:
    """One training run or study in a folder of its own.

    Args:
        folder: New; everything that the job writes is in it, and in ``scratch``.
        config: Keys for ``--config``.
        env: Name of the environment.
        dataset: Path of its dataset.
        study: Run ``rllib study run`` instead of ``rllib train``.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        env: str,
        dataset: Path,
        *,
        study: bool = False,
    ) -> None:
        self.folder = folder
        # Ray's sockets need a short path.
        self.scratch = Path(tempfile.mkdtemp(prefix="chaos-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._tries = 10
        self._seen: dict[int, psutil.Process] = {}
        self._study = study
        self.offline_updates: int = config["offline_updates"]
        # As many as needed: Ray starts a process for each at once.
        needed = 1 + config.get("num_learners", 0) + config.get("num_env_runners", 0)
        cpus = ["--ray-num-cpus", str(needed)]
        if study:
            self._file = "study.py"
            self._settings = _STUDY.format(env=env, dataset=str(dataset), config=config)
            self._command = ["study", "run", "study.py", "--output", "runs", *cpus]
            self._resume = self._command
            return
        self._file, self._settings = "config.json", json.dumps(config)
        place = ["--storage-path", "runs", "--experiment-name", "run", "--no-artifacts", *cpus]
        self._command = ["train", "--algo", "FMQ", "--env", env, "--dataset", str(dataset)]
        self._command += ["--config", "config.json", "--evaluation-interval", "0"]
        self._command += ["--checkpoint-freq", "1", "--num-to-keep", "3", "--max-failures", "10"]
        self._command += place
        self._resume = ["train", "--resume", "--trust", *place]

    @property
    def trial(self) -> Path | None:
        """Folder of the job's last trial; None before there is one."""
        pattern = "runs/trials/*" if self._study else "runs/run/FMQ_*"
        trials = [path for path in self.folder.glob(pattern) if path.is_dir()]
        return max(trials, key=lambda path: "online" in path.name, default=None)

    @property
    def logs(self) -> Path:
        """Folder of the environments' logs."""
        return self.folder / "log"

    def start(self) -> None:
        """Begin, in a new folder."""
        self.logs.mkdir(parents=True)
        (self.folder / self._file).write_text(self._settings, encoding="utf-8")
        self._run(self._command)

    def resume(self) -> None:
        """Go on after the death of the driver."""
        self._run(self._resume)

    def _run(self, arguments: list[str]) -> None:
        environment = os.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "TMPDIR": str(self.scratch),
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            # On a busy machine a process imports for longer than Ray's 60 s.
            "RAY_worker_register_timeout_seconds": "600",
            # Spares each of the many processes a second or two.
            "RLLIB_TEST_NO_JAX_IMPORT": "1",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        with open(self.folder / "job.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rllib_fmq.cli", *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def driver(self) -> psutil.Process:
        """The command's own process."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def running(self) -> bool:
        """Whether the command has not ended; it is given again where Ray did not start."""
        code = self.exit_code()
        if code not in (None, 0) and _RAY_DID_NOT_START in self.last_words() and self._tries > 0:
            self._tries -= 1
            self._run(self._resume if self.trial else self._command)
            return True
        return code is None and self._process is not None

    def exit_code(self) -> int | None:
        """Of the command; None while it runs."""
        return None if self._process is None else self._process.poll()

    def actors(self, pattern: str) -> list[psutil.Process]:
        """Ray's processes of this job in whose title a regular expression is found."""
        found = []
        for process in self._descendants():
            words = title(process)
            if words.startswith("ray::") and re.search(pattern, words):
                found.append(process)
        return found

    def _descendants(self) -> list[psutil.Process]:
        try:
            processes: list[psutil.Process] = self.driver.children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen.update({process.pid: process for process in processes})
        return processes

    def kill_driver(self) -> None:
        """SIGKILL the command; the rest of the job is left to itself."""
        assert self._process is not None
        self._descendants()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def left_behind(self, seconds: float = 120.0) -> list[str]:
        """Titles of the job's processes that outlive it by some seconds; they are ended then."""
        if self.running():
            self.kill_driver()
        deadline = time.monotonic() + seconds
        # Dead ones that nobody reaps have no title.
        while alive := [p for p in self._seen.values() if p.is_running() and title(p)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        titles = [title(process).strip() for process in alive]
        for process in alive:
            process.kill()
        return titles

    def results(self) -> list[dict[str, Any]]:
        """The trial's results so far, a dict an iteration."""
        trial = self.trial
        path = trial and trial / ("rows.jsonl" if self._study else "result.json")
        if path is None or not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [result for result in found if result.get("kind", "training") == "training"]

    def checkpoint(self) -> Path:
        """The newest whole checkpoint."""
        if self.trial is None:
            raise JobError("the job has no trial")
        return find_checkpoint(self.trial / "checkpoint" if self._study else self.trial)

    def unfinished(self) -> list[str]:
        """What there is of a checkpoint that is being written, or was when its writer died.

        A trial of Tune writes into a temporary folder, of which Tune makes a copy before it
        removes it; a study writes beside the checkpoint's place.
        """
        if self._study:
            return [name for name in _names(self.trial) if ".partial-" in name]
        written = [name for name in _names(self.scratch) if _TEMPORARY.search(name)]
        return [name for name in written if _names(self.scratch / name)]

    def remove_files(self) -> None:
        """Delete all but Ray's files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_scratch(self) -> None:
        """Delete Ray's files."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def last_words(self) -> str:
        """The end of what the command printed."""
        text = (self.folder / "job.log").read_text(encoding="utf-8", errors="replace")
        return " | ".join(text.strip().splitlines()[-3:])


def wait_until(seconds: float, poll: float = 0.02) -> Iterator[None]:
    """Yield every ``poll`` seconds; raises ``JobError`` when ``seconds`` are over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(poll)
    raise JobError(f"nothing happened for {seconds:g} s")


def _names(folder: Path | None) -> list[str]:
    try:
        return [] if folder is None else os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def title(process: psutil.Process) -> str:
    """Its command line, which Ray replaces by the name of what the process does."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
