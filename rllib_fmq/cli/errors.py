"""One line for whatever goes wrong; tracebacks only with -v."""

from __future__ import annotations

import difflib
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from rllib_fmq.errors import root_cause

__all__ = ["INTERRUPTED", "CommandError", "root_cause", "run_app", "set_verbosity", "suggestion"]

INTERRUPTED = 130

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
    except (Exception, SystemExit) as error:  # user's code may call sys.exit
        return _report(error)
    return code if isinstance(code, int) else 0


def _report(error: Exception | SystemExit) -> int:
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
