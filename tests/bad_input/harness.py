"""Bad inputs, how they are given to the command, and what has to come of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.conftest import PENDULUM
from tests.command import Command, Outcome

AREAS = ("cli", "config", "dataset", "checkpoint", "environment")
DATA = "data.npz"
"""A sound dataset of Pendulum that every case's folder holds."""
STARTED = "Ray was started with a bad input"
Contents = Mapping[str, "str | bytes"]


@dataclass(frozen=True)
class Case:
    """One bad input.

    Args:
        name: Unique in its area.
        arguments: Of the command, which is called in a folder of the case's own.
        says: What the line on stderr must contain: the offending value or name.
        files: Written into the folder first.
        code: Exit code; None: 1 or 2.
    """

    name: str
    arguments: Sequence[str]
    says: str
    files: Contents = field(default_factory=dict)
    code: int | None = None


def fmq(*arguments: str, env: str = PENDULUM, data: str = DATA) -> tuple[str, ...]:
    """``rllib train`` as it should be, and what is to go wrong behind it."""
    return (
        *("train", "--algo", "FMQ", "--env", env, "--dataset", data),
        *("--storage-path", "results"),
        *arguments,
    )


def check(rllib: Command, folder: Path, case: Case) -> None:
    """Give a bad input to the command: one clear line, and nothing written.

    Args:
        rllib: The command in this process.
        folder: The working folder.
        case: The bad input.
    """
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    before = snapshot(folder)
    outcome = rllib(*case.arguments)
    assert outcome.code in ((1, 2) if case.code is None else (case.code,)), outcome
    check_line(outcome)
    assert case.says in outcome.err, outcome.err
    assert snapshot(folder) == before


def check_line(outcome: Outcome) -> None:
    """One line, of a length that is read, and no traceback."""
    assert outcome.err.startswith("rllib: ") and outcome.err.count("\n") == 1, outcome.err
    assert len(outcome.err) < 1300, outcome.err
    assert "Traceback" not in outcome.err + outcome.out, outcome
    assert STARTED not in outcome.err, outcome.err


def check_handled(outcome: Outcome, folder: Path, before: Mapping[str, str]) -> bool:
    """Whether an input that need not be bad was refused, with nothing written."""
    assert "Traceback" not in outcome.err + outcome.out, outcome
    if outcome.code == 0 or (outcome.code == 2 and not outcome.err and "Usage:" in outcome.out):
        return False  # the latter is the help that a group of commands shows without any
    check_line(outcome)
    assert snapshot(folder) == before
    return True


def snapshot(folder: Path) -> dict[str, str]:
    """Every path below a folder, and the SHA-256 of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


Record = Callable[[str, int], None]
"""``record("cli", 3)``: three more bad inputs were tried."""
