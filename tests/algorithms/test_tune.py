"""Ray Tune: the methods by name, a grid over eta and beta, a config object or a dict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune

import rllib_fmq  # noqa: F401  (registers "FMQ")


@pytest.mark.slow
def test_grid_over_eta_and_beta(
    ray_session: None, small_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = small_config("FMQ").training(
        eta=tune.grid_search([0.5, 1.0]), beta=tune.grid_search([0.0, 0.3])
    )
    results = tune.Tuner(
        "FMQ",
        param_space=config,
        run_config=tune.RunConfig(name="grid", storage_path=str(tmp_path), verbose=0),
    ).fit()

    assert len(results) == 4 and not results.errors
    assert {(r.config["eta"], r.config["beta"]) for r in results} == {
        (eta, beta) for eta in (0.5, 1.0) for beta in (0.0, 0.3)
    }
    for result in results:
        assert result.metrics["done"] and result.metrics["num_online_env_steps"] >= 40
        # The policy at the end of each phase.
        assert len(list(Path(result.path).glob("checkpoint_*"))) == 2
        eta_eff = result.metrics["learners"]["default_policy"]["eta_eff"]
        if result.config["beta"] == 0.0:
            assert eta_eff == pytest.approx(result.config["eta"])
        else:
            assert 0 < eta_eff < 0.95 * result.config["eta"]
