"""Tiny policies, exported once for all tests of a process."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rllib_fmq.checkpointing.policy_file import PolicyRecord
from rllib_fmq.flow.selection import SelectorKind, SelectorSettings
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.serving.export import ExportReport, write_policy

PARTS_ENV = "RllibFmqTests/Parts-v0"
PARTS_STEPS = 5
OBS_SIZE, HORIZON = 3, 2
LOW, HIGH = [-2.0, 0.0], [1.0, 5.0]


class PartsEnv(gym.Env[Any, Any]):
    """Observes a Dict whose parts are not in the order of their names."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        vector = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        number = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.observation_space = gym.spaces.Dict([("goal", vector), ("arm", number)])
        self.action_space = gym.spaces.Box(np.float32(LOW), np.float32(HIGH))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        return self._observe(), 1.0, False, False, {}

    def _observe(self) -> dict[str, Any]:
        goal, arm = np.split(self.np_random.standard_normal(OBS_SIZE, dtype=np.float32), [2])
        return {"goal": goal, "arm": arm}


# With Gymnasium: Ray's registry would start Ray.
if PARTS_ENV not in gym.registry:
    gym.register(PARTS_ENV, PartsEnv, max_episode_steps=PARTS_STEPS)


@dataclass(frozen=True)
class Exported:
    """A module, and the folder that was exported from it."""

    module: FlowMapModule
    report: ExportReport

    @property
    def folder(self) -> Path:
        return self.report.folder

    def settings(self, kind: SelectorKind) -> SelectorSettings:
        return dataclasses.replace(self.module.evaluation_selector, kind=kind)


def make_policy(
    kind: SelectorKind, *, env: str = PARTS_ENV, **changes: Any
) -> tuple[FlowMapModule, PolicyRecord]:
    """A policy with random parameters, as ``load_policy`` returns it."""
    selector = SelectorSettings(
        kind, num_candidates=4, euler_steps=2, beam_width=2, search_iters=1, branches=2
    )
    config = {
        "horizon_length": HORIZON,
        "scoring": "min",
        "collection_selector": dataclasses.asdict(selector),
        "evaluation_selector": dataclasses.asdict(selector),
        "actor_hidden": (8,),
        "critic_hidden": (8,),
        "time_embedding_dim": 8,
        "conditioning_axis": False,
        "gelu": "tanh",
        "num_critics": 2,
    } | changes
    spaces = {
        "observation_space": gym.spaces.Box(-np.inf, np.inf, (OBS_SIZE,), np.float32),
        "action_space": gym.spaces.Box(np.float32(LOW), np.float32(HIGH)),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = FlowMapModule(**spaces, inference_only=False, model_config=config)
        for parameter in module.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    diagonal_only = kind == "euler"
    record = PolicyRecord(
        algorithm="QC" if diagonal_only else "FMQ",
        **spaces,
        model_config=config,
        lambda_sd=0.0 if diagonal_only else 1.0,
        jumps_trained=not diagonal_only,
        gamma=0.99,
        env=env,
    )
    return module.eval(), record


def export(folder: Path, kind: SelectorKind, **changes: Any) -> Exported:
    module, record = make_policy(kind, **changes)
    return Exported(module, write_policy(folder, module, record))


@pytest.fixture(scope="session")
def one_step_policy(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One-step, best-of-N and QGBS."""
    return export(tmp_path_factory.mktemp("one-step"), "best_of_n")


@pytest.fixture(scope="session")
def euler_policy(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Euler alone."""
    return export(tmp_path_factory.mktemp("euler"), "euler")
