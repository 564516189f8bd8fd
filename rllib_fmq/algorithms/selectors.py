"""From a config's selector keys to a selector's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from rllib_fmq.flow.selection import SelectorSettings

SelectorChoice: TypeAlias = str | Mapping[str, Any]
"""A selector's name, or a dict with ``kind`` and any field of ``SelectorSettings``."""


def resolve_selector(config: Any, use: str) -> SelectorSettings:
    """Resolve the selector of one use.

    Args:
        config: A ``FlowMapConfig``.
        use: "collection", "target" or "evaluation".
    Returns:
        The selector's settings, with the config's numbers where the choice is a name.
    Raises:
        ValueError: For an unknown kind, field or number.
    """
    choice: SelectorChoice = getattr(config, f"{use}_selector")
    candidates = getattr(config, f"{use}_num_candidates", None)
    fields: dict[str, Any] = {
        "num_candidates": config.num_candidates if candidates is None else candidates,
        "euler_steps": config.euler_steps,
        "beam_width": config.beam_width,
        "search_iters": config.search_iters,
        "branches": config.branches,
        "eta": config.qgbs_eta,
        "snr": config.snr,
        "completion": config.qgbs_completion,
        "grad_eps": config.grad_eps,
    }
    chosen = {"kind": choice} if isinstance(choice, str) else choice
    known = isinstance(chosen, Mapping) and set(chosen) <= {*fields, "kind"}
    if not known or "kind" not in chosen:
        raise ValueError(
            f"{use}_selector={choice!r}: expected a name or a dict with 'kind' and any of "
            f"{sorted(fields)}."
        )
    try:
        return SelectorSettings(**{**fields, **chosen})
    except ValueError as error:
        raise ValueError(f"{use}_selector={choice!r}: {error}") from error
