"""The HTTP interface in this process: what it answers, and what it refuses with which reason."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")

from fastapi.testclient import TestClient

from rllib_fmq.serving.http_api import build_api
from rllib_fmq.serving.policy import Action, Floats, ObservationPart, PolicyInfo
from rllib_fmq.serving.sessions import PolicyService, SessionStore
from tests.serving.malformed import ACT, BODIES, GOOD, JSON, REQUESTS, check_reason
from tests.serving.plain_plans import INFO, plain_plan

PARTS = (ObservationPart(("goal",), (2,)), ObservationPart(("arm", "joint"), (1,)))


async def plan(row: Floats, noise: dict[str, Floats]) -> Action:
    return plain_plan(row, noise)


def client_of(info: PolicyInfo, max_sessions: int = 100) -> TestClient:
    service = PolicyService(info, plan, SessionStore(info, max_sessions, 60.0))
    return TestClient(build_api(service), raise_server_exceptions=False)


@pytest.fixture()
def client() -> Iterator[TestClient]:
    with client_of(INFO) as http:
        yield http


def open_session(client: TestClient, seed: int | None = 7) -> str:
    answer = client.post("/sessions", json={"seed": seed})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["session"])


def test_a_session_from_open_to_close(client: TestClient) -> None:
    opened = client.post("/sessions", json={"seed": 7}).json()
    assert opened["horizon_length"] == 3 and opened["action_dtype"] == "float32"
    path = f"/sessions/{opened['session']}"
    answers = [client.post(f"{path}/act", json={"observation": GOOD}).json() for _ in range(4)]
    assert [answer["planned"] for answer in answers] == [True, False, False, True]
    noise = INFO.draw_noise(np.random.default_rng(7))
    chunk = plain_plan(np.float32(GOOD), noise)
    np.testing.assert_allclose([answer["action"] for answer in answers[:3]], chunk)
    assert client.post(f"{path}/reset", json={"seed": 7}).status_code == 204
    again = client.post(f"{path}/act", json={"observation": GOOD}).json()
    assert again == answers[0]
    assert client.delete(path).status_code == 204
    assert client.delete(path).status_code == 404


def test_bodies_of_opening_and_resetting_are_optional(client: TestClient) -> None:
    name = client.post("/sessions").json()["session"]
    assert client.post(f"/sessions/{name}/reset").status_code == 204


def test_parts_of_a_structured_observation() -> None:
    with client_of(dataclasses.replace(INFO, parts=PARTS)) as client:
        path = f"/sessions/{open_session(client)}/act"
        obs = {"arm": {"joint": [2.0]}, "goal": [0.5, -1.0]}
        structured = client.post(path, json={"observation": obs}).json()
        flat = f"/sessions/{open_session(client)}/act"
        assert client.post(flat, json={"observation": GOOD}).json() == structured


@pytest.mark.parametrize("key", ["k" * 500_000, "\\ud800", "line\nbreak", "joint\x1b[2J"])
def test_unknown_parts_are_named_briefly(key: str) -> None:
    with client_of(dataclasses.replace(INFO, parts=PARTS)) as client:
        path = f"/sessions/{open_session(client)}/act"
        obs = {"arm": {"joint": [2.0]}, "goal": [0.5, -1.0], key: [0.0]}
        body = json.dumps({"observation": obs}).replace("\\\\ud800", "\\ud800")
        headers = {"content-type": "application/json"}
        answer = client.post(path, content=body, headers=headers)
        assert answer.status_code == 422
        check_reason(answer.json())
        assert answer.json()["error"].isprintable()


def test_health_and_metrics(client: TestClient) -> None:
    name = open_session(client)
    client.post(f"/sessions/{name}/act", json={"observation": GOOD})
    client.post(f"/sessions/{name}/act", json={"observation": []})
    assert client.get("/health").json() == {"status": "ok"}
    text = client.get("/metrics").text
    for line in (
        "flow_map_policy_sessions 1.0",
        "flow_map_policy_actions_total 1.0",
        "flow_map_policy_planning_seconds_count 1.0",
        'flow_map_policy_refused_total{status="422"} 1.0',
    ):
        assert line in text.splitlines(), line
    assert client.get("/policy").json()["observation_size"] == 3


def test_full_is_refused_with_when_to_come_again() -> None:
    with client_of(INFO, max_sessions=1) as client:
        open_session(client)
        answer = client.post("/sessions")
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert "all 1 sessions are in use" in answer.json()["error"]


def test_a_planner_that_fails_is_told_apart_from_a_bad_request() -> None:
    async def fail(row: Floats, noise: dict[str, Floats]) -> Action:
        raise OSError("no planner")

    service = PolicyService(INFO, fail, SessionStore(INFO, 1, 60.0))
    with TestClient(build_api(service)) as client:
        path = f"/sessions/{open_session(client)}/act"
        for answer in (client.get("/health"), client.post(path, json={"observation": GOOD})):
            assert answer.status_code == 503
            assert answer.json() == {"error": "planning failed (OSError): send the request again."}


def test_an_action_that_is_not_finite_is_no_answer() -> None:
    async def overflow(row: Floats, noise: dict[str, Floats]) -> Action:
        return np.full((3, 2), np.inf if row[0] > 1e30 else 0.5, np.float32)

    service = PolicyService(INFO, overflow, SessionStore(INFO, 1, 60.0))
    with TestClient(build_api(service)) as client:
        path = f"/sessions/{open_session(client)}/act"
        answer = client.post(path, json={"observation": [1e38, 0.0, 0.0]})
        assert answer.status_code == 422 and "not finite" in answer.json()["error"]
        answer = client.post(path, json={"observation": GOOD})
        assert answer.json() == {"action": [0.5, 0.5], "planned": True}


def test_malformed_bodies_get_a_reason(client: TestClient) -> None:
    name = open_session(client)
    path = f"/sessions/{name}/act"
    assert len({body for body, _ in BODIES}) >= 85
    for body, status in BODIES:
        answer = client.post(
            path, content=body.encode(), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == status, (body[:80], answer.status_code, answer.text)
        check_reason(answer.json())
    # None of them drew noise or took an action.
    action = client.post(path, json={"observation": GOOD}).json()["action"]
    first = plain_plan(np.float32(GOOD), INFO.draw_noise(np.random.default_rng(7)))[0]
    np.testing.assert_allclose(action, first)


@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), REQUESTS)
def test_malformed_requests_get_a_reason(
    client: TestClient, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    path = path.replace("NAME", open_session(client))
    answer = client.request(method, path, headers=headers, content=body)
    assert answer.status_code == status, answer.text
    check_reason(answer.json())


def test_a_body_without_a_length_is_refused(client: TestClient) -> None:
    path = f"/sessions/{open_session(client)}/act"
    answer = client.post(path, content=iter([ACT]), headers=JSON)
    assert answer.status_code == 411
    check_reason(answer.json())
