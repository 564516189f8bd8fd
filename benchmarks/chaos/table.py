"""The table of all kills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def summarise(kills: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each kind, and their sum.

    Args:
        kills: From ``cases.run``.
    """
    kinds = sorted({kill["kind"] for kill in kills})
    rows = [_row(kind, [kill for kill in kills if kill["kind"] == kind]) for kind in kinds]
    return [*rows, _row("all", kills)]


def _row(name: str, kills: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": name,
        "kills": len(kills),
        "recovered": sum(kill["recovered"] for kill in kills),
        "lost": sum(kill.get("lost", 0) for kill in kills),
        "duplicated": sum(kill.get("duplicated", 0) for kill in kills),
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = [
        "| kind | kills | recovered | transitions lost beyond unfinished fragments | duplicated |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['kind']} | {row['kills']} | {row['recovered']} | {row['lost']} "
        f"| {row['duplicated']} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"
