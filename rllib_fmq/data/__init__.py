"""Datasets: one reader per format, one in-memory table."""

from __future__ import annotations

from rllib_fmq.data.formats.arrays import from_arrays
from rllib_fmq.data.formats.transitions_npz import save_transitions
from rllib_fmq.data.loading import check_fits, load_dataset, scale_actions, unscale_actions
from rllib_fmq.data.table import TransitionTable

__all__ = [
    "TransitionTable",
    "check_fits",
    "from_arrays",
    "load_dataset",
    "save_transitions",
    "scale_actions",
    "unscale_actions",
]
