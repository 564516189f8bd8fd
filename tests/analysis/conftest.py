"""Results as Tune writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture()
def write_trial(tmp_path: Path) -> Callable[..., Path]:
    """``write_trial("FMQ_x_00000", seed=0)``: a trial folder of 4 offline and 6 online rows.

    Evaluation: after 2 and 4 (offline), 6, 8 and 10 (online) iterations; every result in
    between repeats the last one, as RLlib's do.
    """

    def write(name: str, *, experiment: str = "experiment", **config: Any) -> Path:
        folder = tmp_path / experiment / name
        folder.mkdir(parents=True)
        rows = [row(i, config) for i in range(1, 11)]
        (folder / "result.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
        return folder

    return write


def row(iteration: int, config: dict[str, Any]) -> dict[str, Any]:
    """One result; numbers are chosen so that a test can tell where they came from."""
    offline = iteration <= 4
    result: dict[str, Any] = {
        "training_iteration": iteration,
        "phase": "offline" if offline else "online",
        "num_updates": 100 * iteration,
        "num_online_env_steps": 0 if offline else 50 * (iteration - 4),
        "evaluated_this_iteration": iteration % 2 == 0,
        "config": {"env": "some-env-v0", "eta": 1.0, "beta": 0.3} | config,
        "learners": {"default_policy": {"critic_loss": 1.0 / iteration}},
    }
    if iteration >= 2:
        last = iteration - iteration % 2
        result["evaluation"] = {"env_runners": {"success_rate": last / 10}}
    if not offline:
        result["env_runners"] = {"success_rate": iteration / 20}
        result["learners"]["default_policy"] |= {"displacement": 0.1 * iteration, "eta_eff": 0.8}
    return result
