"""One line for whatever goes wrong; tracebacks only with -v."""

from __future__ import annotations

import difflib
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

import typer

INTERRUPTED = 130
_ERROR_LINE = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt|Exit))(?::\s*(.*))?$")
# What Ray and Python put after an error that crossed processes or had a cause.
_AFTER_ERROR = re.compile(r"^(The above exception|During handling|Traceback|ray::|\(pid|$)")
_LONGEST = 1200
"""Characters of a message; longer ones list every parameter of a network, say."""

_verbosity = 0


class CommandError(Exception):
    """Ends the command with its message as the one line on stderr.

    Args:
        message: What is wrong, with the value, and what to do.
        exit_code: 1, or 2 where the command was used wrongly.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def set_verbosity(level: int) -> None:
    """From which on errors come with their traceback.

    Args:
        level: 0: one line; 1 and more: traceback first.
    """
    global _verbosity
    _verbosity = level


def suggestion(name: str, known: Iterable[str]) -> str:
    """A question that helps with a misspelt name.

    Args:
        name: What was given.
        known: What would have been right.
    Returns:
        " Did you mean ...?", or nothing where no name is close.
    """
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.55)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def root_cause(error: BaseException | str) -> str:
    """The message that a person needs out of an error that crossed Ray's processes.

    Args:
        error: An exception, or the text of a remote traceback.
    Returns:
        One line: the innermost error's message, with its type where the message alone would
        not be understood.
    """
    text = error if isinstance(error, str) else _innermost(error)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = text.strip().splitlines()
    for start in range(len(lines) - 1, -1, -1):
        match = _ERROR_LINE.match(lines[start].strip())
        if match:
            kind, message = match.groups()
            rest = []
            for line in lines[start + 1 :]:
                if _AFTER_ERROR.match(line):
                    break
                rest.append(line)
            return _shorten(_with_kind(kind, " ".join([message or "", *rest])))
    return _shorten(" ".join(text.split()) or "unknown error")


def _innermost(error: BaseException) -> str:
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException) and cause is not error:  # Ray's RayTaskError
        return _innermost(cause)
    if type(error).__module__.split(".")[0] == "ray":
        return str(error)  # holds the remote traceback
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _shorten(message: str) -> str:
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]} ..."


def _with_kind(kind: str, message: str) -> str:
    message = " ".join(message.split())
    if kind in (
        "ValueError",
        "FileNotFoundError",
        "FileExistsError",
        "OSError",
        "PermissionError",
        "CommandError",
        "RuntimeError",
    ):
        return message or kind
    if kind == "ModuleNotFoundError" and "pip install" in message:
        return message
    return f"{kind}: {message}" if message else kind


def run_app(app: typer.Typer, arguments: Sequence[str] | None) -> int:
    """Run a Typer app; errors become one line on stderr.

    Args:
        app: The app.
        arguments: None: those of this process.
    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    set_verbosity(0)
    try:
        code = app(args=given, prog_name="rllib", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted")
        return INTERRUPTED
    except Exception as error:
        return _report(error)
    return code if isinstance(code, int) else 0


def _report(error: Exception) -> int:
    if hasattr(error, "format_message"):  # Typer's own: wrong usage
        context: Any = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message())
            return 2
        command = context.command_path if context is not None else "rllib"
        _say(f"{error.format_message().strip()} (see `{command} --help`)")
        return int(getattr(error, "exit_code", 2))
    if _verbosity:
        traceback.print_exception(error)
    _say(root_cause(error))
    return error.exit_code if isinstance(error, CommandError) else 1


def _say(message: str) -> None:
    print(f"rllib: {' '.join(message.split())}", file=sys.stderr, flush=True)
