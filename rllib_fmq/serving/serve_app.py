"""A policy as a Ray Serve application: ``serve run rllib_fmq.serving.serve_app:app policy=FOLDER``.

One replica holds the sessions; any number of others plan, in batches over all sessions.
"""

# Serve reads the annotations of `app` as objects: no postponed evaluation here.
import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from rllib_fmq.serving.http_api import build_api
from rllib_fmq.serving.policy import Action, Floats, Planner, PolicyInfo, read_info
from rllib_fmq.serving.sessions import PolicyService, SessionStore

# Replicas that act need nothing of training: they start sooner, in a fraction of the memory.
_WITHOUT_RLLIB = {"runtime_env": {"env_vars": {"RLLIB_FMQ_REGISTER": "0"}}}


class ServeArguments(BaseModel):
    """What ``serve run ... KEY=VALUE`` and the ``args`` of a Serve config file may set."""

    model_config = ConfigDict(extra="forbid")

    policy: str
    """Folder that ``rllib export`` wrote; with several nodes, on storage that all of them see."""
    selector: str | None = None
    """One that was exported; None: the run's own."""
    backend: str = "torch"
    """"torch" or "onnx"."""
    planners: int = Field(default=1, ge=1)
    """Replicas that plan."""
    max_batch_size: int = Field(default=32, ge=1)
    """Observations that are planned for together."""
    batch_wait_s: float = Field(default=0.002, ge=0.0)
    """Seconds that the first of a batch waits for others."""
    max_sessions: int = Field(default=10_000, ge=1)
    session_idle_s: float = Field(default=600.0, gt=0.0)
    """Seconds without a request after which a session expires."""


@serve.deployment(max_ongoing_requests=1_000, ray_actor_options=_WITHOUT_RLLIB)
class ChunkPlanner:
    """Plans chunks; has no state.

    Args:
        arguments: Of the application.
    """

    def __init__(self, arguments: ServeArguments) -> None:
        self._planner = Planner(arguments.policy, arguments.selector, arguments.backend)
        self.plan.set_max_batch_size(arguments.max_batch_size)
        self.plan.set_batch_wait_timeout_s(arguments.batch_wait_s)

    @serve.batch
    async def plan(self, rows: list[tuple[Floats, dict[str, Floats]]]) -> list[Action]:
        """One chunk (H, *action shape) for each (observation, noise)."""
        obs = np.stack([row for row, _ in rows])
        noise = {name: np.stack([draws[name] for _, draws in rows]) for name in rows[0][1]}
        # In a thread, so that the next batch gathers meanwhile.
        return list(await asyncio.to_thread(self._planner.plan, obs, noise))


# One replica: an episode's chunk lies in its memory.
@serve.deployment(max_ongoing_requests=1_000, num_replicas=1, ray_actor_options=_WITHOUT_RLLIB)
@serve.ingress()
class PolicySessions:
    """Speaks HTTP and keeps each session's chunk.

    Args:
        info: Of the policy.
        planner: Handle of ``ChunkPlanner``.
        arguments: Of the application.
    """

    def __init__(
        self, info: PolicyInfo, planner: DeploymentHandle, arguments: ServeArguments
    ) -> None:
        async def plan(row: Floats, noise: dict[str, Floats]) -> Action:
            chunk: Action = await planner.plan.remote((row, noise))
            return chunk

        store = SessionStore(info, arguments.max_sessions, arguments.session_idle_s)
        self._service = PolicyService(info, plan, store)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The name is Serve's, which calls this after the constructor."""
        return build_api(self._service)


def app(arguments: ServeArguments) -> Application:
    """Builder for ``serve run`` and ``serve deploy``.

    Args:
        arguments: Where the policy is, and how it is served.
    Returns:
        The application.
    Raises:
        FileNotFoundError: If there is no exported policy.
        ValueError: If it is damaged, or the selector unknown.
    """
    settings: dict[str, Any] = {"policy": str(Path(arguments.policy).expanduser().resolve())}
    placed = arguments.model_copy(update=settings)
    info = read_info(placed.policy, placed.selector)
    planner = ChunkPlanner.options(num_replicas=placed.planners).bind(placed)  # type: ignore[attr-defined]
    sessions: Application = PolicySessions.bind(  # type: ignore[attr-defined]
        info, planner, placed
    )
    return sessions
