"""RLlib callbacks of every run: success of collected episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback

SUCCESS_RATE = "success_rate"
SUCCESS_KEYS = ("success", "is_success")


def is_success(info: Mapping[str, Any]) -> bool | None:
    """Whether a step's info reports success.

    Args:
        info: As the environment returned it.
    Returns:
        True or False, or None where the environment says nothing of success.
    """
    for key in SUCCESS_KEYS:
        if key in info:
            return bool(info[key])
    return None


class SuccessCallback(RLlibCallback):
    """Logs ``env_runners/success_rate``: share of episodes with a successful step.

    At the root of the results it is over the episodes that ended in the iteration.
    """

    def on_episode_end(
        self,
        *,
        episode: Any,
        prev_episode_chunks: Any = (),
        metrics_logger: Any = None,
        **kwargs: Any,
    ) -> None:
        """Look through the infos of all of the episode's fragments."""
        infos = [info for part in [*prev_episode_chunks, episode] for info in part.get_infos()]
        reports = [report for info in infos if (report := is_success(info)) is not None]
        if reports and metrics_logger is not None:
            metrics_logger.log_value(SUCCESS_RATE, float(any(reports)), window=50)
