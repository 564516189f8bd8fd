"""What resumes an env-runner in the middle of its episodes, as plain data."""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_fmq.rollout.chunking import PLANNED_EPISODES, QUEUES
from rllib_fmq.rollout.env_runner import NUM_EPISODES_NOT_RESUMED, FlowMapEnvRunner
from rllib_fmq.rollout.plain_data import plain

State = dict[str, Any]

logger = logging.getLogger(__name__)


def collect_runner_states(group: Any) -> dict[int, State]:
    """The resume state of every runner that collects.

    Args:
        group: The algorithm's ``EnvRunnerGroup``, between two rounds.
    Returns:
        Worker index (0 is the local runner) -> NumPy arrays, numbers, strings, None, lists
        and dicts of those. Empty where the runners are not ``FlowMapEnvRunner``.
    """
    if not issubclass(group.env_runner_cls, FlowMapEnvRunner):
        return {}
    if not group.num_remote_env_runners():
        return {0: runner_state(group.local_env_runner)}
    pairs = group.foreach_env_runner(
        lambda runner: (runner.worker_index, runner_state(runner)), local_env_runner=False
    )
    return dict(pairs)


def restore_runner_states(group: Any, states: Mapping[int, State]) -> set[str]:
    """Let runners go on where those of a checkpoint stopped.

    A runner without a state, or with another number of environments, starts new episodes, with
    seeds that were not used before; so does an environment whose running episode cannot be
    repeated. Those episodes are counted in
    ``num_episodes_not_resumed``.

    Args:
        group: The ``EnvRunnerGroup`` of an algorithm that has the checkpoint's weights.
        states: From ``collect_runner_states``.
    Returns:
        Ids of the episodes that go on.
    """
    if not states or not issubclass(group.env_runner_cls, FlowMapEnvRunner):
        return set()
    remote = group.num_remote_env_runners() > 0
    if remote:
        here = group.healthy_env_runner_ids()
        tasks = [partial(_restore, state=states.get(index)) for index in here]
        answers = dict(
            group.foreach_env_runner(tasks, local_env_runner=False, remote_worker_ids=here)
        )
    else:
        answers = dict([_restore(group.local_env_runner, states.get(0))])
    lost = sum(num_running(state) for index, state in states.items() if index not in answers)
    count = partial(_count_not_resumed, num=lost)
    if not remote:
        count(group.local_env_runner)
    elif lost and answers:
        group.foreach_env_runner(count, local_env_runner=False, remote_worker_ids=[min(answers)])
    return {name for names in answers.values() for name in names}


def _restore(runner: Any, state: State | None) -> tuple[int, list[str]]:
    """The runner's index, and ids of the episodes that go on."""
    if state is None:
        # It was dead when the others were saved: which seeds it had used is not known.
        runner.start_generation(runner.seed_place.entropy, secrets.randbits(32))
        runner.module.seed_planning(secrets.randbits(32))
        return runner.worker_index, []
    kept, dropped = restore_runner(runner, state)
    _count_not_resumed(runner, dropped)
    return runner.worker_index, kept


def _count_not_resumed(runner: Any, num: int) -> None:
    if num:
        runner.metrics.log_value(NUM_EPISODES_NOT_RESUMED, num, reduce="lifetime_sum")


def num_running(state: State) -> int:
    """Episodes that were running when a state was taken."""
    return sum(episode is not None for episode in state["episodes"])


def runner_state(runner: FlowMapEnvRunner) -> State:
    """All that decides what a runner does next; its weights and connectors aside.

    Where the vector of environments has failed since the last sample, that is noted as a crash,
    and the state is that of a runner whose next episodes are about to begin.
    """
    environments = _environment_states(runner)  # first: a crash changes what follows
    shared = runner._shared_data or {}
    started = not runner._needs_initial_reset
    episodes = runner._ongoing_episodes if started else []
    running = [e.is_reset and e.id_ not in runner._faulty for e in episodes]
    batch = runner._cached_to_module or {}
    state: State = {
        "num_envs": runner.num_envs,
        "entropy": runner.seed_place.entropy,
        "generation": runner.seed_place.generation,
        "environments": environments,
        "episodes": [
            episode_state(e) if goes_on else None
            for e, goes_on in zip(episodes, running, strict=True)
        ],
        "earlier_fragments": {
            name: [episode_state(fragment) for fragment in fragments]
            for name, fragments in runner._ongoing_episodes_for_metrics.items()
        },
        "queues": {name: list(queue) for name, queue in shared.get(QUEUES, {}).items()},
        # Among them RLlib's memory of which row of a batch is whose.
        "shared": {key: value for key, value in shared.items() if key != QUEUES},
        "to_module": dict(batch),
        "planning": runner.module.planning_state(),
        "lifetime_steps": runner.num_env_steps_sampled_lifetime,
        "faults_in_a_row": list(runner.faults_in_a_row),
        "metrics": runner.metrics.get_state(),
        "clock": time.perf_counter(),
    }
    data: State = plain(state)
    return data


def _environment_states(runner: FlowMapEnvRunner) -> list[State]:
    if runner._needs_initial_reset:
        return []
    try:
        return list(runner.env.unwrapped.call("replay_state"))
    except Exception as error:  # the process of an environment died while it was idle
        runner.crashed_between_samples(error)
        return []


def restore_runner(runner: FlowMapEnvRunner, state: State) -> tuple[list[str], int]:
    """Put a runner where another one stopped.

    Args:
        runner: With the same config, and the weights of the checkpoint.
        state: From ``runner_state``.
    Returns:
        Ids of the episodes that go on, and how many do not.
    """
    runner.module.set_planning_state(state["planning"])
    runner.num_env_steps_sampled_lifetime = state["lifetime_steps"]
    if state["num_envs"] != runner.num_envs:
        # Other places in the vector: their seeds may have been used.
        runner.start_generation(state["entropy"], state["generation"] + 1)
        return [], num_running(state)
    runner.start_generation(state["entropy"], state["generation"])
    runner.faults_in_a_row = list(state["faults_in_a_row"])
    runner.metrics.set_state(state["metrics"])
    if not state["environments"]:
        return [], 0
    goes_on = runner.env.unwrapped.call("replay", state["environments"])
    kept = {
        episode["id_"]
        for episode, resumed in zip(state["episodes"], goes_on, strict=True)
        if episode is not None and resumed
    }
    _put_episodes(runner, state, kept)
    _put_plans(runner, state, kept)
    runner._needs_initial_reset = False
    runner.mark_started()
    dropped = num_running(state) - len(kept)
    if dropped:
        logger.warning(
            "env-runner %d: %d of %d running episodes could not be repeated to where they "
            "stopped (resume_episodes=%s, or an environment that is not deterministic): they are "
            "dropped, new ones begin.",
            runner.worker_index,
            dropped,
            num_running(state),
            runner.config.resume_episodes,
        )
    return sorted(kept), dropped


def _put_episodes(runner: FlowMapEnvRunner, state: State, kept: set[str]) -> None:
    later = time.perf_counter() - state["clock"]
    runner._ongoing_episodes = [None] * runner.num_envs
    for index, episode in enumerate(state["episodes"]):
        if episode is not None and episode["id_"] in kept:
            runner._ongoing_episodes[index] = restored_episode(episode, later)
        else:
            runner._new_episode(index)
    runner._done_episodes_for_metrics.clear()
    runner._ongoing_episodes_for_metrics.clear()
    for name, fragments in state["earlier_fragments"].items():
        if name in kept:
            runner._ongoing_episodes_for_metrics[name] = [
                restored_episode(fragment, later) for fragment in fragments
            ]


def _put_plans(runner: FlowMapEnvRunner, state: State, kept: set[str]) -> None:
    """Chunk queues, and the observations that the next forward plans for."""
    shared = state["shared"]
    planned = shared.get(PLANNED_EPISODES, [])
    rows = [row for row, name in enumerate(planned) if name in kept]
    queues = {name: deque(queue) for name, queue in state["queues"].items() if name in kept}
    own = {QUEUES: queues, PLANNED_EPISODES: [planned[row] for row in rows]}
    runner._shared_data = shared | own
    runner._cached_to_module = {
        key: torch.as_tensor(np.array(value)[rows], device=runner._device)
        for key, value in state["to_module"].items()
    }


def episode_state(episode: Any) -> State:
    """RLlib's state of a fragment, with buffers that hold nothing yet."""
    state: State = episode.get_state()
    outputs = episode.extra_model_outputs
    state["extra_model_outputs"] = {key: value.get_state() for key, value in outputs.items()}
    return state


def restored_episode(state: State, later: float) -> Any:
    """A fragment from its state.

    Args:
        state: From ``episode_state``, made plain.
        later: Seconds by which this process' clock is ahead of the state's.
    """
    times = {
        key: None if state[key] is None else state[key] + later
        for key in ("_start_time", "_last_step_time")
    }
    return SingleAgentEpisode.from_state(state | times)
