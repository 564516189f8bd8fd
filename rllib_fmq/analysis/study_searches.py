"""How actions are chosen in a study's evaluations: selectors, and searches among them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from rllib_fmq.flow.selection import SelectorSettings

Row: TypeAlias = Mapping[str, Any]
"""A row of the table: column -> value."""
Selector: TypeAlias = tuple[str, str]
"""Kind of a selector and its settings as JSON."""

BEST_OF_N, EULER, QGBS = "best_of_n", "euler", "qgbs"
_DEFAULTS = SelectorSettings(kind="qgbs")  # the paper's numbers
DEFAULT_SEARCH = (_DEFAULTS.search_iters, _DEFAULTS.branches, _DEFAULTS.beam_width)
"""K, B, M of "+ QGBS" (section 4.1)."""
SEARCH_NUMBERS = {key: getattr(_DEFAULTS, key) for key in ("eta", "snr", "completion")}
"""The paper's numbers of QGBS beside K, B and M."""


@dataclass(frozen=True, order=True)
class SearchSettings:
    """How an action is searched for; best-of-N is K = 0, {B, M} = {1, N}.

    Args:
        search_iters: K.
        branches: B.
        beam_width: M.
        nfe: Network evaluations a decision; M (1 + K B).
        selector: "best_of_n" or "qgbs", which takes a step also with K = 0.
        others: What differs from the paper's numbers beside K, B and M, such as "eta 1".
    """

    search_iters: int
    branches: int
    beam_width: int
    nfe: float
    selector: str = QGBS
    others: str = ""

    @property
    def is_search(self) -> bool:
        """Whether it is QGBS; best-of-N only chooses."""
        return self.selector == QGBS

    @property
    def braces(self) -> str:
        """Of the paper's Table 2: "{B, M}"."""
        return f"{{{self.branches}, {self.beam_width}}}"

    @property
    def label(self) -> str:
        """In words: "best of 32", "K=1 {4, 4}", "K=1 {4, 4}, eta 1"."""
        if not self.is_search:
            return f"best of {self.beam_width}"
        named = f"K={self.search_iters} {self.braces}"
        return f"{named}, {self.others}" if self.others else named


def selector_numbers(text: str) -> dict[str, Any]:
    """Settings of a selector.

    Args:
        text: JSON object, or "".
    Raises:
        ValueError: If it is something else.
    """
    try:
        numbers = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"selector_config {text!r} is not JSON: {error}.") from error
    if not isinstance(numbers, dict):
        raise ValueError(f"selector_config {text!r}: expected a JSON object.")
    return numbers


def search_settings(selector: str, numbers: Mapping[str, Any], nfe: float) -> SearchSettings | None:
    """K, B, M and NFE of best-of-N or QGBS; None for another selector.

    Args:
        selector: Kind.
        numbers: Its settings; the defaults stand in for missing ones.
        nfe: As it was recorded; computed if NaN.
    """
    if selector == BEST_OF_N:
        k, b, m = 0, 1, _candidates(numbers)
    elif selector == QGBS:
        k, b, m = (
            int(numbers.get(key, default))
            for key, default in zip(
                ("search_iters", "branches", "beam_width"), DEFAULT_SEARCH, strict=True
            )
        )
    else:
        return None
    nfe = float(m * (1 + k * b)) if nfe != nfe else nfe
    others = _departures(numbers) if selector == QGBS else []
    return SearchSettings(k, b, m, nfe, selector, ", ".join(others))


def departures(row: Row) -> list[str]:
    """Numbers of a QGBS evaluation, beside K, B and M, that are not the paper's.

    Args:
        row: Of the table.
    Returns:
        Such as ["eta 1"]; empty for another selector.
    """
    return _departures(selector_numbers(row["selector_config"])) if row["selector"] == QGBS else []


def _departures(numbers: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} {_shown(numbers[key])}"
        for key, default in SEARCH_NUMBERS.items()
        if numbers.get(key, default) != default
    ]


def selector_words(selector: Selector) -> str:
    """A selector in words, such as "best of 32", "QGBS K=1 {4, 4}".

    Args:
        selector: Kind and settings.
    """
    kind, text = selector
    numbers = selector_numbers(text)
    if kind == EULER:
        steps = numbers.get("euler_steps", _DEFAULTS.euler_steps)
        return f"best of {_candidates(numbers)} by {steps} Euler steps"
    search = search_settings(kind, numbers, math.nan)
    if search is None:
        return "one sample" if kind == "sample" else kind
    if not search.is_search:
        return search.label
    return f"QGBS {search.label}"


def _candidates(numbers: Mapping[str, Any]) -> int:
    return int(numbers.get("num_candidates", _DEFAULTS.num_candidates))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
