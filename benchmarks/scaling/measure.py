"""The times of the pieces on this machine, each alone."""

from __future__ import annotations

import pickle
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from ray.tune.registry import register_env

from benchmarks.scaling.model import Line, Pieces
from benchmarks.speed.ours import OurLoop, make_config, make_module, selector_settings, to_windows
from benchmarks.speed.problem import Sizes, random_batch
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.rollout.sampling import Answer, collect
from rllib_fmq.tasks.registry import make_env

FRAGMENTS = (10, 50)
"""Two lengths, for a line through both."""
STILL = "rllib_fmq_benchmarks/Still"


def waited() -> float:
    """Seconds for which this thread could have run and had no core; 0 where that is not known."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) * 1e-9
    except OSError:
        return 0.0


def undisturbed() -> float:
    """A clock that stands still while this thread waits for a core."""
    return time.perf_counter() - waited()


def seconds_a_call(call: Callable[[], Any], rounds: int = 3, shortest: float = 0.02) -> float:
    """Median over rounds, each of as many calls as take so long, on the undisturbed clock."""
    call()
    start = undisturbed()
    call()
    calls = max(1, round(shortest / max(1e-7, undisturbed() - start)))
    found = []
    for _ in range(rounds):
        start = undisturbed()
        for _ in range(calls):
            call()
        found.append((undisturbed() - start) / calls)
    return statistics.median(found)


class Still(gym.Env[np.ndarray, np.ndarray]):
    """Of given sizes; a step takes no time, and episodes do not end."""

    def __init__(self, sizes: Sizes) -> None:
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (sizes.obs_dim,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (sizes.action_dim,), np.float32)
        self._obs = np.zeros(sizes.obs_dim, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Zeros."""
        return self._obs, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Zeros."""
        return self._obs, 0.0, False, False, {}


def env_step(task: str, stretches: int = 20, steps: int = 10) -> float:
    """A step of a task with random actions; resets do not count."""
    env: Any = make_env(task)
    env.action_space.seed(0)
    env.reset(seed=0)
    found = []
    for _ in range(stretches):
        actions = [env.action_space.sample() for _ in range(steps)]
        start, done = undisturbed(), 0
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            done += 1
            if terminated or truncated:
                break
        found.append((undisturbed() - start) / done)
        if terminated or truncated:
            env.reset()
    env.close()
    return statistics.median(found)


def planning(module: FlowMapModule, selector: Any, rows: Sequence[int]) -> dict[int, float]:
    """Seconds by the number of rows planned at once."""
    obs_dim = module.observation_space.shape[0]
    return {
        n: seconds_a_call(partial(module.plan, torch.zeros(n, obs_dim), selector)) for n in rows
    }


def planning_by_selector(
    sizes: Sizes, selectors: Sequence[str], rows: Sequence[int]
) -> dict[str, dict[int, float]]:
    """The same with untrained networks of given sizes, for several selectors."""
    config = make_config(sizes)
    module = make_module(config, sizes)
    return {kind: planning(module, selector_settings(config, kind), rows) for kind in selectors}


def updates(sizes: Sizes, batches: Sequence[int], candidates: int = 1) -> dict[int, float]:
    """Seconds of FMQ's online update, not compiled, by batch."""
    found = {}
    for batch in batches:
        of_batch = replace(sizes, batch_size=batch)
        loop = OurLoop(of_batch, "FMQ", True, candidates)
        windows = to_windows(random_batch(of_batch))
        found[batch] = seconds_a_call(partial(loop.update, windows), rounds=3)
    return found


@dataclass(frozen=True)
class RunnerCost:
    """Of an env-runner in this process, whose environments take no time."""

    sample: float
    """Fixed, of a request: see ``Pieces``."""
    vector_step: Line
    step_bytes: float
    """Of an answer."""


def runner_cost(sizes: Sizes, envs: tuple[int, int] = (1, 8)) -> RunnerCost:
    """Connectors, bookkeeping and answers, by the number of environments.

    Args:
        sizes: Of observations, actions and networks.
        envs: Two numbers.
    """
    register_env(STILL, lambda context: Still(sizes))
    lines, answers = [], []
    for number in envs:
        config = (
            make_config(sizes)
            .environment(STILL)
            .training(collection_selector="sample")
            .env_runners(num_envs_per_env_runner=number)
            .debugging(seed=0, log_level="ERROR")
        )
        runner = config.env_runner_cls(config=config, worker_index=0)
        line, answer = sampling_line(runner, number)
        module = runner.module.unwrapped()
        plan = planning(module, module.collection_selector, [number])[number]
        lines.append(Line(line.fixed, max(0.0, line.each - plan / module.horizon_length)))
        answers.append(len(pickle.dumps(answer)) / (FRAGMENTS[-1] * number))
        runner.stop()
    steps = Line.through((envs[0], lines[0].each), (envs[1], lines[1].each))
    return RunnerCost(lines[0].fixed, steps, answers[-1])


def sampling_line(runner: Any, envs: int) -> tuple[Line, Answer]:
    """Seconds of a request in the runner's own process by steps of its vector.

    Returns:
        The line, and the last answer; pickling it is in the line.
    """
    answer = Answer()

    def sample(steps: int) -> None:
        nonlocal answer
        answer = collect(runner, steps * envs)
        pickle.dumps(answer)

    sample(FRAGMENTS[0])
    seconds = [seconds_a_call(partial(sample, steps)) for steps in FRAGMENTS]
    line = Line.through((FRAGMENTS[0], seconds[0]), (FRAGMENTS[1], seconds[1]))
    return line, answer


def lookup(number: int = 300) -> float:
    """One comparison of RLlib's search for an answered request among all of a round."""
    requests = [ray.ObjectRef.from_random() for _ in range(number)]

    def search() -> None:
        for request in requests:
            # Twice each, through half of them on average.
            requests.index(request), requests.index(request)

    return seconds_a_call(search) / number**2


def pieces_of(algo: Any, repetitions: int = 5) -> Pieces:
    """All pieces of an algorithm in its online phase, one environment an env-runner.

    The environments should take no time meanwhile. Rounds in flight are stored before.

    Args:
        algo: With remote env-runners.
        repetitions: Of each driver's piece; medians count.
    """
    algo._store_rounds_in_flight()
    group, rounds = algo.env_runner_group, algo._rounds
    number = group.num_healthy_remote_workers()
    found: dict[str, dict[int, list[float]]] = {"answer": {}, "store": {}, "put": {}}
    requests: list[float] = []
    call = seconds_a_call(lambda: algo._update_learners(0, []))
    for _ in range(repetitions):
        for steps in FRAGMENTS:
            start = undisturbed()
            rounds.request(steps * number)
            requests.append((undisturbed() - start) / number)
            calls = list(group._worker_manager._in_flight_req_to_actor_id)
            ray.wait(calls, num_returns=len(calls), timeout=60)
            start = undisturbed()
            fragments = algo._receive().fragments
            received = undisturbed()
            for fragment in fragments:
                ray.put(fragment)
            put = undisturbed()
            algo._update_learners(0, algo._for_learners(fragments))
            stored = undisturbed()
            for name, seconds in (
                ("answer", received - start),
                ("put", put - received),
                ("store", max(0.0, stored - put - call)),
            ):
                found[name].setdefault(steps, []).append(seconds / number)
    median = statistics.median
    lines = {
        name: Line.through(*((n, median(of_length[n])) for n in FRAGMENTS))
        for name, of_length in found.items()
    }
    [runner] = group.foreach_env_runner(
        _runner_pieces, local_env_runner=False, remote_worker_ids=[1]
    )
    request = median(requests)
    several = 20
    update = seconds_a_call(lambda: algo._update_learners(several), rounds=3)
    return Pieces(
        request=request,
        answer=lines["answer"],
        store=lines["store"],
        hand_over=lines["put"],
        call=call,
        lookup=lookup(),
        update=max(0.0, update - call) / several,
        publish=seconds_a_call(algo._sync_weights),
        latency=max(0.0, _round_trip(group) - request),
        **runner,
    )


def _runner_pieces(runner: Any) -> dict[str, Any]:
    """Of ``Pieces``, in the process of an env-runner with one environment."""
    line, _ = sampling_line(runner, 1)
    module = runner.module.unwrapped()
    plan = planning(module, module.collection_selector, [1])
    state = {COMPONENT_RL_MODULE: runner.get_state()[COMPONENT_RL_MODULE], WEIGHTS_SEQ_NO: 1}

    def load() -> None:
        runner._weights_seq_no = 0
        runner.set_state(state)

    load_weights = seconds_a_call(load)
    runner.drop_episodes()  # the replay has not seen what they went through
    step = max(0.0, line.each - plan[1] / module.horizon_length)
    return {
        "sample": line.fixed,
        "vector_step": Line(step),
        "plan": tuple(plan.items()),
        "horizon": module.horizon_length,
        "load_weights": load_weights,
    }


def _round_trip(group: Any) -> float:
    """Of a call that does nothing: the quickest, since others waited for a core on their way."""
    actor = group._worker_manager.actors()[1]
    found = []
    for _ in range(30):
        start = undisturbed()
        ray.get(actor.apply.remote(_nothing))
        found.append(undisturbed() - start)
    return min(found)


def _nothing(runner: Any) -> None:
    """What it says."""


@dataclass(frozen=True)
class WeightCost:
    """Of a version of the weights of actor and critics."""

    publish: float
    load: float
    num_bytes: float


def weight_cost(sizes: Sizes) -> WeightCost:
    """Get and put them, and take them over, with Ray running."""
    module = make_module(make_config(sizes), sizes)
    state = module.get_state(inference_only=True)
    return WeightCost(
        publish=seconds_a_call(lambda: ray.put(module.get_state(inference_only=True))),
        load=seconds_a_call(lambda: module.set_state(state)),
        num_bytes=float(sum(np.asarray(array).nbytes for array in state.values())),
    )
