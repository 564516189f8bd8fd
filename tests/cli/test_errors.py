"""The one line that is left of an error that crossed processes."""

from __future__ import annotations

import pytest

from rllib_fmq.cli.errors import root_cause, suggestion

REMOTE = """\
Failure # 1 (occurred at 2026-01-02_03-04-05)
The actor died because of an error in its creation task, \x1b[36mray::FMQ.__init__()\x1b[39m
  File "ray/rllib/algorithms/algorithm.py", line 541, in __init__
    super().__init__(
ValueError: first reason

The above exception was the direct cause of the following exception:

ray::FMQ.__init__() (pid=1)
  File "somewhere.py", line 3, in load
    raise ValueError(text)
ValueError: dataset x.npz is broken:
\tline two of the message
"""


def test_innermost_error_of_a_remote_traceback() -> None:
    assert root_cause(REMOTE) == "dataset x.npz is broken: line two of the message"


def test_chatter_after_the_error_is_left_out() -> None:
    text = "FileNotFoundError: no such file\n\nDuring handling of the above exception, more\n"
    assert root_cause(text) == "no such file"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("eta=-1:\n must be >= 0"), "eta=-1: must be >= 0"),
        (KeyError("phase"), "KeyError: 'phase'"),
        (AssertionError(), "AssertionError"),
        ("", "unknown error"),
        ("something without a type", "something without a type"),
        (
            ModuleNotFoundError("needs x: pip install 'rllib-fmq[plots]'"),
            "needs x: pip install 'rllib-fmq[plots]'",
        ),
        (ModuleNotFoundError("No module named 'x'"), "ModuleNotFoundError: No module named 'x'"),
    ],
)
def test_local_errors(error: BaseException | str, line: str) -> None:
    assert root_cause(error) == line


def test_error_of_a_task_is_unwrapped() -> None:
    from ray.exceptions import RayTaskError

    inner = ValueError("what the worker said")
    error = RayTaskError("work", "Traceback ...\nValueError: what the worker said", inner)
    assert root_cause(error) == "what the worker said"
    assert root_cause(error.as_instanceof_cause()) == "what the worker said"


def test_endless_messages_are_cut() -> None:
    assert len(root_cause(ValueError("x" * 5_000))) < 1_300


def test_suggestion() -> None:
    assert suggestion("FQM", ["FMQ", "PPO"]) == " Did you mean 'FMQ'?"
    assert suggestion("zzz", ["FMQ", "PPO"]) == ""
