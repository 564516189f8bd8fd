"""The HTTP interface of a policy: sessions, actions, health, metrics. Knows nothing of Ray."""

from __future__ import annotations

import logging
import time
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from rllib_fmq.serving.sessions import (
    PlanningError,
    PolicyService,
    TooManySessionsError,
    UnknownSessionError,
)

_log = logging.getLogger(__name__)

LARGEST_BODY = 1 << 20
"""Bytes of a request."""
_DEEPEST = 8
"""Lists and mappings inside each other in an observation."""

Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]


class SeedRequest(BaseModel):
    """Body of opening and resetting a session."""

    model_config = ConfigDict(extra="forbid")
    seed: Seed | None = None


class ActRequest(BaseModel):
    """Body of a request for an action."""

    model_config = ConfigDict(extra="forbid")
    observation: list[Any] | dict[str, Any]


def build_api(service: PolicyService) -> FastAPI:
    """The application.

    Args:
        service: Holds the sessions.
    Returns:
        ``POST /sessions``, ``POST /sessions/{id}/act``, ``POST /sessions/{id}/reset``,
        ``DELETE /sessions/{id}``, ``GET /policy``, ``GET /health``, ``GET /metrics``. Every
        refusal is a JSON object with the reason as ``error``.
    """
    api = FastAPI(title="Flow-map policy")
    metrics = _Metrics(service)
    _refuse_with_reasons(api, metrics)

    @api.post("/sessions", status_code=201)
    async def open_session(body: SeedRequest | None = None) -> dict[str, Any]:
        name = service.store.open(body.seed if body else None)
        metrics.opened.inc()
        return {"session": name, **_description(service)}

    @api.post("/sessions/{name}/act")
    async def act(name: str, body: ActRequest) -> dict[str, Any]:
        _check_numbers(body.observation)
        start = time.perf_counter()
        action, planned = await service.act(name, body.observation)
        metrics.actions.inc()
        if planned:
            metrics.planning.observe(time.perf_counter() - start)
        return {"action": action.tolist(), "planned": planned}

    @api.post("/sessions/{name}/reset", status_code=204)
    async def reset(name: str, body: SeedRequest | None = None) -> None:
        await service.reset(name, body.seed if body else None)

    @api.delete("/sessions/{name}", status_code=204)
    async def close(name: str) -> None:
        service.store.close(name)

    @api.get("/policy")
    async def policy() -> dict[str, Any]:
        return _description(service)

    @api.get("/health")
    async def health() -> dict[str, str]:
        await service.check()
        return {"status": "ok"}

    @api.get("/metrics")
    async def show_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return api


def _description(service: PolicyService) -> dict[str, Any]:
    info = service.info
    return {
        "algorithm": info.algorithm,
        "env": info.env,
        "selector": info.selector,
        "nfe": info.nfe,
        "horizon_length": info.horizon_length,
        "observation_size": info.obs_size,
        "observation_parts": [
            {"path": list(part.path), "shape": list(part.shape)} for part in info.parts
        ],
        "action_shape": list(info.low.shape),
        "action_dtype": str(info.low.dtype),
    }


class _Metrics:
    """What Serve's own metrics do not know: sessions and chunks."""

    def __init__(self, service: PolicyService) -> None:
        self.registry = CollectorRegistry()
        prefix = "flow_map_policy"

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{prefix}_{name}", text, labels, registry=self.registry)

        self.opened = counter("sessions_opened", "Sessions opened.")
        self.actions = counter("actions", "Actions served.")
        self.refused = counter("refused", "Requests refused, by HTTP status.", "status")
        self.planning = Histogram(
            f"{prefix}_planning_seconds",
            "Time to an action that took a plan, waiting for a batch included.",
            registry=self.registry,
        )
        open_now = Gauge(f"{prefix}_sessions", "Sessions open.", registry=self.registry)
        open_now.set_function(lambda: len(service.store))
        expired = Gauge(
            f"{prefix}_sessions_expired", "Sessions that expired.", registry=self.registry
        )
        expired.set_function(lambda: service.store.num_expired)


def _check_numbers(value: Any, depth: int = 0) -> None:
    """JSON's true, null and strings are no numbers, though NumPy would take some of them."""
    if depth > _DEEPEST:
        raise ValueError(f"observation: more than {_DEEPEST} lists or objects inside each other.")
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            _check_numbers(item, depth + 1)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"observation holds {str(value)[:40]!r}, which is no number.")


def _refuse_with_reasons(api: FastAPI, metrics: _Metrics) -> None:
    def refuse(status: int, reason: str, **headers: str) -> JSONResponse:
        metrics.refused.labels(str(status)).inc()
        return JSONResponse({"error": reason}, status, headers)

    @api.middleware("http")
    async def bound_body(request: Request, call_next: Any) -> Response:
        if request.method in ("POST", "PUT", "PATCH"):
            length = request.headers.get("content-length", "")
            if not (length.isascii() and length.isdigit()):
                return refuse(411, "the header Content-Length is missing or no number.")
            if len(length) > 9 or int(length) > LARGEST_BODY:
                return refuse(413, f"the body is larger than {LARGEST_BODY} bytes.")
        response: Response = await call_next(request)
        return response

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # Not the values: they may be NaN, which JSON does not have, or long.
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return refuse(422, f"{where}: {first['msg']}")

    @api.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return refuse(error.status_code, str(error.detail), **dict(error.headers or {}))

    @api.exception_handler(UnknownSessionError)
    async def unknown(_: Request, error: UnknownSessionError) -> JSONResponse:
        return refuse(404, str(error))

    @api.exception_handler(TooManySessionsError)
    async def full(_: Request, error: TooManySessionsError) -> JSONResponse:
        return refuse(503, str(error), **{"Retry-After": "1"})

    @api.exception_handler(PlanningError)
    async def not_planned(_: Request, error: PlanningError) -> JSONResponse:
        _log.error("planning failed", exc_info=error)
        return refuse(503, str(error), **{"Retry-After": "1"})

    @api.exception_handler(ValueError)
    async def wrong(_: Request, error: ValueError) -> JSONResponse:
        return refuse(422, str(error))
