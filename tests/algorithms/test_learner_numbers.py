"""One, two and four learners: what they ask Ray for, and runs that change their number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.algorithms.conftest import run_to_end
from tests.algorithms.exact import differences, snapshot

Small = Callable[..., Any]


def bundles(config: Any) -> tuple[list[dict[str, float]], str]:
    """What Tune reserves, and how it places that."""
    request = config.algo_class.default_resource_request(config)
    return [{k: v for k, v in b.items() if v} for b in request.bundles], request.strategy


def test_resources_are_those_that_rllib_is_configured_with(small_config: Small) -> None:
    config = small_config().env_runners(num_env_runners=2, num_cpus_per_env_runner=0.5)
    config.evaluation(evaluation_num_env_runners=1)
    config.learners(num_learners=2, num_gpus_per_learner=0.75, num_cpus_per_learner=3)
    config.resources(num_cpus_for_main_process=2, placement_strategy="SPREAD")
    runner = {"CPU": 0.5}
    learner = {"CPU": 3, "GPU": 0.75}
    assert bundles(config) == ([{"CPU": 2}, runner, runner, runner, learner, learner], "SPREAD")


def test_learner_in_the_main_process_takes_its_gpu_there(small_config: Small) -> None:
    config = small_config().learners(num_learners=0, num_gpus_per_learner=0.25)
    assert bundles(config) == ([{"CPU": 1, "GPU": 0.25}], "PACK")
    config = small_config().learners(num_learners=4, custom_resources_per_learner={"fast": 1})
    assert bundles(config)[0] == [{"CPU": 1}, *[{"CPU": 1, "fast": 1}] * 4]


def trained_parts(learner: dict[str, Any]) -> dict[str, Any]:
    return {part: learner[part] for part in ("networks", "optimizer")}


@pytest.mark.slow
def test_two_learners_checkpoint_goes_on_with_one_and_four(
    ray_session: None, small_config: Small, tmp_path: Path
) -> None:
    def config(learners: int) -> Any:
        made = small_config("FMQ", online_env_steps=80, offline_updates=40)
        made.training(parameter_check_interval=10).evaluation(evaluation_interval=None)
        return made.learners(num_learners=learners, num_cpus_per_learner=0.5)

    algo = config(2).build_algo()
    while algo.num_online_env_steps < 40:
        algo.train()
    algo.save_to_path(tmp_path / "c")
    counts = (algo.num_updates, algo.num_online_env_steps)
    saved = trained_parts(snapshot(algo)["learner 0"])
    algo.stop()
    for learners in (1, 4):
        again = config(learners).build_algo()
        again.restore_from_path(tmp_path / "c")
        assert (again.num_updates, again.num_online_env_steps) == counts
        restored = snapshot(again)
        assert len(restored) == learners
        for learner in restored.values():
            assert differences(saved, trained_parts(learner)) == []
        rows = again.ask_learners(lambda learner: learner.replay.num_online)
        assert rows == [counts[1]] * learners
        last = run_to_end(again)[-1]
        assert last["num_online_env_steps"] == 80
        assert last["num_updates"] == 40 + 80 - 10
