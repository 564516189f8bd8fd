"""The command, called in one of three ways: as a user does, or faster."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Outcome:
    """What a call of the command did."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """What the command sets for its whole process is afterwards as it was."""
    environment = dict(os.environ)
    names = [None, "ray", "ray.tune", "ray.rllib", "ray.train", "ray.air", "ray.data"]
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        yield
    os.environ.clear()
    os.environ.update(environment)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def run_rllib(*arguments: str | Path, timeout: float = 900.0) -> Outcome:
    """The command in a process of its own, as a user calls it."""
    process = subprocess.run(
        [sys.executable, "-m", "rllib_fmq.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Outcome(process.returncode, process.stdout, process.stderr)


def run_here(*arguments: str | Path) -> Outcome:
    """The command in this process and the tests' own Ray, which takes half the time."""
    import ray

    from rllib_fmq.cli import main, ray_session

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, restored():
        patch.setattr(sys, "argv", ["rllib"])
        patch.setattr(ray_session, "start_patiently", lambda **settings: None)
        patch.setattr(ray, "shutdown", lambda: None)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())
