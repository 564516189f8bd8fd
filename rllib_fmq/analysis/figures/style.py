"""One look for every figure of a study: colours, line styles, grids of panels, files."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rllib_fmq.atomic import replacing

MISSING_MATPLOTLIB = (
    "no figures: the package 'matplotlib' is not installed: pip install 'rllib-fmq[plots]'"
)
SUFFIXES = (".png", ".svg")
GREY = "#555555"
_DPI = 150
_WIDTHS = {1: 5.8, 2: 8.4, 3: 9.9}
"""Inches of a figure with so many panels beside each other."""
# What is drawn must not hang on the reader's own matplotlibrc.
_SETTINGS: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "text.color": "black",
    "axes.labelcolor": "black",
    "xtick.color": "black",
    "ytick.color": "black",
    "axes.edgecolor": "#444444",
}

Draw = TypeVar("Draw", bound=Callable[..., Any])


@dataclass(frozen=True)
class Look:
    """How one method is drawn in every figure; colour, line and marker each tell it apart."""

    colour: str
    line: Any
    """Name of a line style, or offset and lengths of its dashes."""
    marker: str


# Okabe and Ito's palette: told apart by colour-blind readers too. A method with QGBS is of the
# same family of colours as the method alone.
_LOOKS: Mapping[str, Look] = {
    "FMQ": Look("#0072B2", "-", "o"),
    "FMQ + QGBS": Look("#56B4E9", (0, (5, 1.5)), "D"),
    "MVP": Look("#D55E00", (0, (3.5, 1.2)), "s"),
    "MVP + QGBS": Look("#E69F00", (0, (5, 1.5, 1, 1.5)), "P"),
    "QC": Look("#009E73", (0, (1.2, 1.2)), "^"),
}
_OTHERS = (
    Look("#CC79A7", (0, (6, 2, 1, 2)), "v"),
    Look("#7A5195", (0, (2, 1)), "X"),
    Look("#444444", (0, (1, 2)), "*"),
    Look("#8C510A", (0, (8, 2)), "<"),
    Look("#117733", (0, (4, 1, 1, 1, 1, 1)), ">"),
    Look("#882255", (0, (3, 3)), "p"),
)


def look(label: str, labels: Sequence[str] = ()) -> Look:
    """Colour, line style and marker of a method.

    Args:
        label: Display name, such as "FMQ" or "FMQ + QGBS".
        labels: All names of the figure; those that are not among the five known ones share the
            remaining looks in this order.
    """
    if label in _LOOKS:
        return _LOOKS[label]
    others = [name for name in dict.fromkeys(labels) if name not in _LOOKS]
    return _OTHERS[(others.index(label) if label in others else 0) % len(_OTHERS)]


def require_matplotlib() -> None:
    """Raise ModuleNotFoundError, with how to install it, if matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING_MATPLOTLIB, name=error.name) from error


def styled(draw: Draw) -> Draw:
    """Decorator: draw under the settings that all figures share, whatever the user's are."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Any:
        require_matplotlib()
        from matplotlib import rc_context

        with rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return drawn  # type: ignore[return-value]


def new_figure(width: float, height: float) -> Any:
    """An empty ``Figure`` of this size in inches, not pyplot's: no display, no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def panel_grid(
    count: int, columns: int = 3, height: float = 2.35, sharey: bool = True
) -> tuple[Any, list[Any]]:
    """A figure with ``count`` panels.

    Args:
        count: At least one.
        columns: At most so many beside each other.
        height: Of a panel, in inches.
        sharey: One y-axis for all.
    Returns:
        The figure and its panels, row by row.
    """
    across = num_columns(count, columns)
    down = math.ceil(count / across)
    figure = new_figure(_WIDTHS[across], height * down + 0.75)
    grid = figure.subplots(down, across, squeeze=False, sharey=sharey)
    panels = list(grid.flat)
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def num_columns(count: int, most: int = 3) -> int:
    """Panels beside each other: four make a square rather than a row and a single one."""
    return 2 if count == 4 else min(most, count)


def label_outer(panels: Sequence[Any], x: str | None, y: str) -> None:
    """Name the axes where no other panel lies below, or left, in ``panel_grid``.

    Args:
        panels: All of the figure.
        x: Label of the x-axis; None: each panel has its own.
        y: Label of the y-axis.
    """
    columns = num_columns(len(panels))
    for index, axes in enumerate(panels):
        if x is not None and index + columns >= len(panels):
            axes.set_xlabel(x)
        if index % columns == 0:
            axes.set_ylabel(y)


def light_grid(axes: Any, axis: str = "both") -> None:
    """Thin grey lines behind the data."""
    axes.grid(True, axis=axis, color="#e2e2e2", linewidth=0.6)


def short(value: float) -> str:
    """1500 -> "1.5k", 2000000 -> "2M"."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def save(figure: Any, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG (150 dpi) and SVG; the same figure gives the same bytes.

    Args:
        figure: A ``matplotlib.figure.Figure``.
        folder: Where to.
        name: File name without suffix.
    Returns:
        The files.
    """
    from matplotlib import rc_context

    written = []
    for suffix in SUFFIXES:
        path = folder / f"{name}{suffix}"
        # Ids in an SVG are hashes with a salt, by default a random one, and it names its date.
        settings = _SETTINGS | {"svg.hashsalt": name, "svg.fonttype": "path"}
        metadata = {"Date": None} if suffix == ".svg" else {}
        with rc_context(settings), replacing(path) as staged:
            figure.savefig(staged, dpi=_DPI, metadata=metadata)
        written.append(path)
    return written
