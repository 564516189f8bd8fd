"""What a person at the terminal need not read: start-up notices of Ray and of the simulators."""

from __future__ import annotations

import logging
import os
import warnings

_SETTINGS = {
    # Simulators look for a display when imported. Videos are rendered in processes of their own,
    # which choose a backend themselves.
    "MUJOCO_GL": "disable",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Relative paths in a config mean the folder that the command was called in.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def quiet_environment() -> None:
    """Set environment variables that this process and Ray's workers read when they import Ray.

    Those that the user has set stay as they are.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def quiet_loggers(verbosity: int) -> None:
    """Keep warnings of Ray and Gymnasium to themselves; to be called after Ray's import.

    Args:
        verbosity: 0 silences them, 1 and more leave them alone.
    """
    if verbosity:
        return
    warnings.simplefilter("ignore")
    for name in ("ray", "ray.tune", "ray.rllib", "ray.train", "ray.air", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
