"""How much of an offline update is neither the method nor its data: RLlib's share.

``FlowMapLearner.update`` runs as in training, on a small dataset. Counted as work: drawing the
batch, the losses, the backward pass, Adam, the target critics. All the rest is RLlib's share, the
package's own bookkeeping included: part of it comes once an update, part once a call, so that calls
of two lengths tell them apart.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.ours import make_config, spaces
from benchmarks.speed.problem import Sizes
from benchmarks.speed.stopwatch import Accumulator
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.data.formats.transitions_npz import save_transitions
from rllib_fmq.learner import FlowMapLearner
from rllib_fmq.nn import flow_map_module

EPISODES, LENGTH = 20, 200


def write_dataset(path: Path, sizes: Sizes) -> Path:
    """Random numbers of the right shapes, every other episode ending by a termination."""
    random, rows = np.random.default_rng(0), EPISODES * LENGTH
    obs = random.standard_normal((rows + 1, sizes.obs_dim), np.float32)
    last = np.arange(1, rows + 1) % LENGTH == 0
    terminated = last & (np.arange(rows) // LENGTH % 2 == 0)
    return save_transitions(
        path,
        observations=obs[:-1],
        actions=random.uniform(-1, 1, (rows, sizes.action_dim)).astype(np.float32),
        rewards=-random.random(rows, np.float32),
        next_observations=obs[1:],
        terminated=terminated,
        truncated=last & ~terminated,
    )


def make_learner(sizes: Sizes, folder: Path, compiled: bool) -> FlowMapLearner:
    """A learner of FMQ with a one-sample target, without an algorithm around it."""
    dataset = write_dataset(folder / "random.npz", sizes)
    observation_space, action_space = spaces(sizes)
    config: FlowMapConfig = (
        make_config(sizes, "FMQ", target_candidates=1)
        .environment(observation_space=observation_space, action_space=action_space)
        .offline_data(dataset=str(dataset))
        .training(diagonal_warmup_updates=0, interval_anneal_end=0, compile_updates=compiled)
        .phases(offline_updates=1_000_000, online_env_steps=0)
        .debugging(seed=0, log_level="ERROR")
    )
    spec = config.get_multi_rl_module_spec(
        spaces={"default_policy": (observation_space, action_space)}
    )
    learner = FlowMapLearner(config=config, module_spec=spec)
    learner.build()
    return learner


class LearnerShare:
    """Measures one learner.

    Args:
        sizes: Of networks and batch.
        compiled: Whether its updates are compiled.
    """

    def __init__(self, sizes: Sizes, compiled: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.learner = make_learner(sizes, Path(folder), compiled)
        torch.set_num_threads(1)
        self.learner.update(num_updates=3)

    def measure(self, calls: int, num_updates: int) -> dict[str, float]:
        """Processor seconds a call of some updates: the whole, and each part that is work."""
        parts = Accumulator()
        (optimizer,) = self.learner._named_optimizers.values()
        with contextlib.ExitStack() as stack:
            for part, owner, name in (
                ("batch", self.learner.replay, "sample"),
                ("losses", flow_map_module, "training_losses"),
                ("backward", torch.autograd, "backward"),
                ("Adam", optimizer, "step"),
                ("target critics", self.learner.flow_module, "update_target_critics"),
            ):
                stack.enter_context(parts.around(part, owner, name))
            start = time.process_time()
            for _ in range(calls):
                self.learner.update(num_updates=num_updates)
            whole = time.process_time() - start
        missing = [name for name, seconds in parts.seconds.items() if seconds == 0.0]
        if missing:
            raise RuntimeError(f"the learner no longer calls {missing}: its share is unknown")
        return {name: s / calls for name, s in (parts.seconds | {"whole": whole}).items()}

    def shares(
        self, rounds: int, budget_seconds: float, updates_per_call: int = 1000
    ) -> dict[str, Any]:
        """RLlib's share at a number of updates a call.

        Args:
            rounds: Of measurements, at most.
            budget_seconds: No new round starts after it; there is always one.
            updates_per_call: ``updates_per_iteration``.
        Returns:
            Lists of one number a round: "share", and processor seconds "work", "per_update" and
            "per_call"; and the "parts" of the work, medians.
        """
        few, many = 1, 21
        out: dict[str, Any] = {"share": [], "work": [], "per_update": [], "per_call": []}
        rows = []
        begin = time.perf_counter()
        while len(rows) < rounds and (not rows or time.perf_counter() - begin < budget_seconds):
            short, long = self.measure(10, few), self.measure(2, many)
            rest = [one.pop("whole") - sum(one.values()) for one in (short, long)]
            rows.append({name: seconds / many for name, seconds in long.items()})
            work = sum(rows[-1].values())
            per_update = (rest[1] - rest[0]) / (many - few)
            per_call = rest[0] - few * per_update
            overhead = per_update + per_call / updates_per_call
            out["share"].append(overhead / (overhead + work))
            out["work"].append(work)
            out["per_update"].append(per_update)
            out["per_call"].append(per_call)
        out["parts"] = {name: float(np.median([r[name] for r in rows])) for name in rows[0]}
        out["updates_per_call"] = updates_per_call
        return out
