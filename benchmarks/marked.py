"""Parts of documents that are measured: filled by command, not by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from rllib_fmq.atomic import replacing


def write_parts(document: Path, parts: Mapping[str, str]) -> None:
    """Replace what stands between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.

    Args:
        document: Text file.
        parts: Name -> new content.
    Raises:
        ValueError: If the document lacks the marker lines of a part.
    """
    text = document.read_text(encoding="utf-8")
    for name, content in parts.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        filled = f"{begin}\n{content}\n{end}"
        text, found = pattern.subn(lambda _, filled=filled: filled, text)
        if found != 1:
            raise ValueError(f"{document} has {found} pairs of the lines {begin} and {end}, not 1")
    with replacing(document) as staged:
        staged.write_text(text, encoding="utf-8")
