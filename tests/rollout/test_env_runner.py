"""The env-runner: seeds that never come again, and episodes that go on in another process."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.rollout.env_runner import FlowMapEnvRunner
from rllib_fmq.rollout.episode_replay import ReplayableEnv, SeedPlace
from rllib_fmq.rollout.faults import EnvFaultLimitError
from rllib_fmq.rollout.plain_data import plain
from rllib_fmq.rollout.runner_states import num_running, restore_runner, runner_state
from rllib_fmq.seeds import FIRST_EPISODE_SEED, episode_seed

from .environments import SCRIPTED, WANDER
from .faulty import FAULTY, Faulty, Ragged, Robot, Unrepeatable, register_faulty

TIMES = ("timer", "latency", "duration", "time_between")


@pytest.fixture
def runner_of(make_config: Callable[..., FlowMapConfig]) -> Callable[..., FlowMapEnvRunner]:
    register_faulty()

    def make(env: Any, num_envs: int = 3, mode: str = "sync", **faults: Any) -> FlowMapEnvRunner:
        config = make_config(env, num_envs).env_runners(gym_env_vectorize_mode=mode)
        config.fault_tolerance(**faults).validate()
        return FlowMapEnvRunner(config=config, worker_index=0)

    return make


def stored(runner: FlowMapEnvRunner) -> dict[str, Any]:
    """A runner's state, as a checkpoint gives it back."""
    state = runner_state(runner)
    assert_plain(state)
    loaded: dict[str, Any] = pickle.loads(pickle.dumps(state))
    return loaded


def assert_plain(value: Any) -> None:
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            assert_plain(part)
        return
    assert value is None or type(value) in (bool, int, float, str, np.ndarray), type(value)
    assert not (isinstance(value, np.ndarray) and value.dtype.hasobject)


def comparable(fragments: list[Any]) -> list[dict[str, Any]]:
    """All of fragments but their ids, which are random for new episodes."""
    return [
        {
            "obs": np.asarray(part.get_observations()),
            "actions": np.asarray(part.get_actions()),
            "rewards": np.asarray(part.get_rewards()),
            "ends": (part.is_terminated, part.is_truncated, part.t_started, part.t),
            "infos": part.get_infos(),
            "seq": list(part.get_extra_model_outputs("weights_seq_no")),
        }
        for part in fragments
    ]


def numbers(runner: FlowMapEnvRunner) -> dict[str, Any]:
    stats = {k: v for k, v in runner.get_metrics().items() if not isinstance(v, dict)}
    timed = {k for k in stats if k == "sample" or any(word in k for word in TIMES)}
    return {k: v.peek() for k, v in stats.items() if k not in timed}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("steps", [(), (4,), (3, 8, 7), (21,)])
def test_a_restored_runner_goes_on_bit_for_bit(
    runner_of: Callable[..., FlowMapEnvRunner], steps: tuple[int, ...], mode: str
) -> None:
    # H = 3 and episodes of seven steps: these stop before the first reset, inside of a chunk
    # and an episode, and where all episodes have just ended.
    first = runner_of(WANDER, mode=mode)
    for num in steps:
        first.sample(num_timesteps=num)
        first.get_metrics()
    state = stored(first)
    second = runner_of(WANDER, mode=mode)
    second.set_state(first.get_state())
    second.sample(num_timesteps=5)  # whatever it did before does not matter
    kept, dropped = restore_runner(second, state)
    assert (len(kept), dropped) == (num_running(state), 0)
    running = {e.id_ for e in first._ongoing_episodes if e is not None and e.is_reset}
    assert set(kept) == running
    for num in (1, 2, 9, 40):
        here, there = (runner.sample(num_timesteps=num) for runner in (first, second))
        np.testing.assert_equal(comparable(there), comparable(here))
        assert [p.id_ in kept for p in there] == [p.id_ in kept for p in here]
        np.testing.assert_equal(numbers(second), numbers(first))
    first.stop()
    second.stop()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_episodes_of_ragged_observations_go_on(
    runner_of: Callable[..., FlowMapEnvRunner], mode: str
) -> None:
    first, second = runner_of(Ragged, mode=mode), runner_of(Ragged, mode=mode)
    first.sample(num_timesteps=12)
    state = stored(first)
    assert [len(e["running"]["observation"]) for e in state["environments"]] == [2] * 3
    second.set_state(first.get_state())
    assert len(restore_runner(second, state)[0]) == 3
    here, there = (runner.sample(num_timesteps=9) for runner in (first, second))
    np.testing.assert_equal(comparable(there), comparable(here))
    # Of another form: dropped, and no error.
    state["environments"][0]["running"]["observation"].pop()
    assert restore_runner(second, state)[1] == 1
    first.stop()
    second.stop()


@pytest.mark.parametrize("limit", [5, 0])
def test_a_process_that_died_while_idle_costs_its_episodes_and_no_checkpoint(
    runner_of: Callable[..., FlowMapEnvRunner], limit: int
) -> None:
    runner = runner_of(FAULTY, mode="async", max_env_faults=limit)
    runner.sample(num_timesteps=12)
    before, old = runner.seed_place.generation, {e.id_ for e in runner._ongoing_episodes}
    dead = runner.env.unwrapped.processes[1]
    dead.kill()
    dead.join()
    state = stored(runner)
    assert (state["environments"], num_running(state)) == ([], 0)
    assert state["generation"] == runner.seed_place.generation > before  # no seed comes again
    second = runner_of(FAULTY, mode="async")
    assert restore_runner(second, state) == ([], 0)
    if limit:
        fragments = runner.sample(num_timesteps=12)
        assert len(fragments) == 3 and {part.t_started for part in fragments} == {0}
        assert not old & {part.id_ for part in fragments}
        assert runner.get_metrics()["env_faults"]["crash"].peek() == 3
        assert len(stored(runner)["environments"]) == 3
    else:
        for _ in range(2):
            with pytest.raises(EnvFaultLimitError, match=r"failed \(crash\).*max_env_faults=0"):
                runner.sample(num_timesteps=12)
    runner.stop()
    second.stop()


@pytest.mark.parametrize(
    ("env", "faults"), [(Unrepeatable, {}), (Robot, {}), (WANDER, {"resume_episodes": False})]
)
def test_what_cannot_be_repeated_is_dropped(
    runner_of: Callable[..., FlowMapEnvRunner],
    env: Any,
    faults: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = runner_of(env, **faults)
    first.sample(num_timesteps=10)
    second = runner_of(env, **faults)
    state = stored(first)
    assert restore_runner(second, state) == ([], 3)
    assert "3 of 3 running episodes could not be repeated" in caplog.text
    if env in (Robot, WANDER):  # no action was taken again
        assert all(e["running"] is None for e in state["environments"])
    fragments = second.sample(num_timesteps=30)
    assert all(part.t_started == 0 for part in fragments)
    old = [e.id_ for e in first._ongoing_episodes]
    assert not {part.id_ for part in fragments} & set(old)
    assert [e["episode"] for e in runner_state(second)["environments"]] > [
        e["episode"] for e in state["environments"]
    ]


def test_one_episode_that_cannot_be_repeated_leaves_the_others(
    runner_of: Callable[..., FlowMapEnvRunner],
) -> None:
    first = runner_of(WANDER)
    first.sample(num_timesteps=12)
    state = stored(first)
    state["environments"][1]["running"]["observation"][0][0] += 1e-7
    second = runner_of(WANDER)
    second.set_state(first.get_state())
    kept, dropped = restore_runner(second, state)
    assert kept == sorted(e["id_"] for k, e in enumerate(state["episodes"]) if k != 1)
    assert dropped == 1
    here, there = first.sample(num_timesteps=6), second.sample(num_timesteps=6)
    first_parts = {part.id_: np.asarray(part.get_observations()) for part in here}
    for part in there[:3]:
        if part.id_ in kept:
            # Two steps each of the queues; then the new episode changes the noise of all plans.
            np.testing.assert_array_equal(part.get_observations()[:3], first_parts[part.id_][:3])


def test_another_number_of_environments_starts_with_other_seeds(
    runner_of: Callable[..., FlowMapEnvRunner],
) -> None:
    first, second = runner_of(SCRIPTED, 3), runner_of(SCRIPTED, 2)
    first.sample(num_timesteps=60)
    state = stored(first)
    assert restore_runner(second, state) == ([], num_running(state))
    second.sample(num_timesteps=60)
    seeds = [
        seed
        for runner in (first, second)
        for env in runner.env.unwrapped.envs
        for seed in env.unwrapped.seeds
    ]
    assert len(seeds) > 20
    assert len(set(seeds)) == len(seeds)


def test_every_episode_has_a_seed_of_its_own() -> None:
    places = [
        SeedPlace(seed, evaluating, worker, generation)
        for seed in (0, 1)
        for evaluating in (False, True)
        for worker in range(4)
        for generation in (0, 1)
    ]
    seeds = [p.seed(env, episode) for p in places for env in range(4) for episode in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= FIRST_EPISODE_SEED
    assert max(seeds) < 2**31  # environments may put them into a signed integer of 32 bits
    assert episode_seed(3, 0, 1) == episode_seed(3, 0, 1) != episode_seed(3, 1, 0)


def test_without_a_seed_no_two_runs_are_alike(make_config: Callable[..., FlowMapConfig]) -> None:
    seeds = []
    for _ in range(2):
        config = make_config(SCRIPTED).debugging(seed=None)
        config.validate()
        runner = FlowMapEnvRunner(config=config, worker_index=0)
        runner.sample(num_timesteps=2)
        seeds.append(runner.env.unwrapped.envs[0].unwrapped.seeds[0])
    assert seeds[0] != seeds[1]


def test_environments_that_need_a_name_or_arguments_are_made(
    runner_of: Callable[..., FlowMapEnvRunner],
) -> None:
    assert runner_of("Pendulum-v1").sample(num_timesteps=3)
    runner = runner_of(FAULTY, 1)
    inner = runner.env.unwrapped.envs[0]
    assert isinstance(inner, ReplayableEnv)
    assert isinstance(inner.unwrapped, Faulty)
    assert inner.observation_space == inner.unwrapped.observation_space
    assert inner.action_space == inner.unwrapped.action_space


class ChangesActions(Faulty):
    """Scales the action that it is given in place, as some environments do."""

    def step(self, action: np.ndarray) -> Any:
        action *= 0.5
        return super().step(action)


def test_actions_are_remembered_as_they_were_given() -> None:
    place = SeedPlace(0, False, 0, 0)
    first, second = (ReplayableEnv(ChangesActions, 0, place, remember=True) for _ in range(2))
    first.reset()
    for _ in range(3):
        first.step(np.ones(2, np.float32))
    state = first.replay_state()
    np.testing.assert_array_equal(state["running"]["actions"], np.ones((3, 2)))
    assert second.replay([state])


def test_remembering_costs_next_to_nothing() -> None:
    place = SeedPlace(0, False, 0, 0)
    plainly, wrapped = Faulty(), ReplayableEnv(Faulty, 0, place, remember=True)
    timed = ReplayableEnv(Faulty, 0, place, remember=True, timeout_s=60.0)
    action = np.zeros(2, np.float32)

    def seconds(env: gym.Env[Any, Any]) -> float:
        best = np.inf
        for _ in range(5):
            env.reset(seed=0)
            start = time.process_time()  # other processes may be busy
            for _ in range(200):
                env.step(action)
            best = min(best, (time.process_time() - start) / 200)
        return float(best)

    base = seconds(plainly)
    # Measured: 10 and 40 microseconds; a simulator's step takes a thousand.
    assert seconds(wrapped) - base < 5e-4
    assert seconds(timed) - base < 1e-3


def test_plain_data() -> None:
    value = {
        "a": (1, np.float32(0.5), None, np.True_),
        "b": np.array([{"x": 1}, None], dtype=object),
        "dropped": object(),
        3: "keys are strings",
    }
    assert plain(value) == {"a": [1, 0.5, None, True], "b": [{"x": 1}, None]}
    array = np.arange(3)
    copy = plain(array)
    array[0] = 9
    assert copy.tolist() == [0, 1, 2]
