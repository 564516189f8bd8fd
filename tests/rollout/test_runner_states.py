"""A runner that was dead when a checkpoint was saved repeats nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from rllib_fmq.rollout.env_runner import FlowMapEnvRunner
from rllib_fmq.rollout.runner_states import restore_runner_states


class Runner:
    """What restoring calls, noted."""

    def __init__(self) -> None:
        self.worker_index = 0
        self.seed_place = SimpleNamespace(entropy=3)
        self.module = SimpleNamespace(seed_planning=lambda seed: self.noise.append(seed))
        self.generations: list[tuple[int, int]] = []
        self.noise: list[int] = []
        self.metrics = SimpleNamespace(log_value=lambda *args, **kwargs: None)

    def start_generation(self, entropy: int, generation: int) -> None:
        self.generations.append((entropy, generation))


def restored(states: dict[int, Any]) -> Runner:
    runner = Runner()
    group = SimpleNamespace(
        env_runner_cls=FlowMapEnvRunner,
        num_remote_env_runners=lambda: 0,
        local_env_runner=runner,
    )
    assert restore_runner_states(group, states) == set()
    return runner


def test_a_runner_without_a_state_has_new_seeds_and_noise() -> None:
    runners = [restored({2: {"episodes": []}}) for _ in range(2)]
    assert all(runner.generations[0][0] == 3 for runner in runners)
    assert all(runner.generations[0][1] > 0 for runner in runners)
    assert runners[0].generations != runners[1].generations
    assert runners[0].noise != runners[1].noise


def test_without_any_states_runners_stay_as_they_are() -> None:
    assert restored({}).generations == []
