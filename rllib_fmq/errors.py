"""The line that a person needs of an error that crossed processes."""

from __future__ import annotations

import re

_ERROR_LINE = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt|Exit))(?::\s*(.*))?$")
# What Ray and Python put after an error that crossed processes or had a cause.
_AFTER_ERROR = re.compile(r"^(The above exception|During handling|Traceback|ray::|\(pid|$)")
_LONGEST = 1200
"""Characters of a message; longer ones list every parameter of a network, say."""


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
        "UnwritableError",
        "IncompleteCheckpointError",
        "NewerFormatError",
        "PermissionError",
        "CommandError",
        "RuntimeError",
    ):
        return message or kind
    if kind == "ModuleNotFoundError" and "pip install" in message:
        return message
    return f"{kind}: {message}" if message else kind
