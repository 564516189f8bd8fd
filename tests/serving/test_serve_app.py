"""The application in Ray Serve: concurrent sessions over HTTP, each with its own chunks."""

from __future__ import annotations

import http.client
import json
import math
import os
import runpy
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("onnxscript")

import requests
from click.testing import CliRunner
from ray import serve
from ray.serve.scripts import run as serve_command

from rllib_fmq.serving import Policy, serve_app
from rllib_fmq.serving.client import PolicyClient
from rllib_fmq.serving.serve_app import ServeArguments, app
from tests.serving.conftest import OBS_SIZE, PARTS_ENV, PARTS_STEPS, Exported
from tests.serving.malformed import ACT, BODIES, GOOD, JSON, REQUESTS, check_reason

# Three replicas and Serve's own processes start, on a machine that may be busy.
pytestmark = pytest.mark.timeout(1_800)
SESSIONS, STEPS = 6, 9
PLANNERS, BATCH = 2, 2
APPLICATION, PLANNER = "default", "ChunkPlanner"
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "serve_client.py"


def observation(session: int, step: int) -> np.ndarray:
    return np.random.default_rng([session, step]).standard_normal(OBS_SIZE).astype(np.float32)


class RecordingPlanner(serve_app.ChunkPlanner.func_or_class):  # type: ignore[name-defined,misc]
    """The application's own, which remembers how many rows each of its plans had."""

    def __init__(self, arguments: ServeArguments) -> None:
        super().__init__(arguments)
        plan, self.rows = self._planner.plan, []

        def recording(obs: Any, noise: Any) -> Any:
            self.rows.append(len(obs))
            return plan(obs, noise)

        self._planner.plan = recording

    def recorded(self) -> tuple[int, list[int]]:
        return os.getpid(), self.rows


def documented_command(**settings: Any) -> list[str]:
    """The words after `serve run` in docs/SERVING.md, with values for here."""
    lines = (ROOT / "docs" / "SERVING.md").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("serve run ")]
    _, _, target, *pairs = shlex.split(line)
    documented = dict(pair.split("=", 1) for pair in pairs)
    assert documented.keys() <= settings.keys(), documented
    return [target, *(f"{key}={value}" for key, value in (documented | settings).items())]


@pytest.fixture(scope="module")
def url(ray_session: None, euler_policy: Exported) -> Iterator[str]:
    """Of an application that the documented command line starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    words = documented_command(
        policy=euler_policy.folder,
        selector="euler",
        backend="onnx",
        planners=PLANNERS,
        max_batch_size=BATCH,
        batch_wait_s=0.1,
        max_sessions=SESSIONS + 2,
    )
    recording = serve_app.ChunkPlanner.options(func_or_class=RecordingPlanner, name=PLANNER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve_app, "ChunkPlanner", recording)
        CliRunner().invoke(serve_command, ["--non-blocking", *words], catch_exceptions=False)
    assert serve.status().applications[APPLICATION].status == "RUNNING"
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def recorded_rows() -> dict[int, list[int]]:
    """By the process of each planner, which the handle chooses at random."""
    handle = serve.get_deployment_handle(PLANNER, APPLICATION)
    rows: dict[int, list[int]] = {}
    for _ in range(60):
        process, found = handle.recorded.remote().result(timeout_s=120)
        rows[process] = found
        if len(rows) == PLANNERS:
            break
    return rows


def test_each_session_acts_as_a_policy_of_its_own(url: str, euler_policy: Exported) -> None:
    def act(seed: int) -> list[np.ndarray]:
        with PolicyClient(url, seed=seed) as client:
            assert client.info["horizon_length"] == 2
            return [client.act(observation(seed, step)) for step in range(STEPS)]

    before = recorded_rows()
    with ThreadPoolExecutor(SESSIONS) as pool:
        served = list(pool.map(act, range(SESSIONS)))
    policy = Policy(euler_policy.folder)
    for seed, actions in enumerate(served):
        policy.reset(seed)
        alone = [policy.act(observation(seed, step)) for step in range(STEPS)]
        np.testing.assert_allclose(actions, alone, atol=5e-5)
        assert actions[0].dtype == np.float32
    planned = [rows[len(before[process]) :] for process, rows in recorded_rows().items()]
    assert len(planned) == PLANNERS and all(planned)  # each of them took a part
    sizes = [rows for of_planner in planned for rows in of_planner]
    assert sum(sizes) == SESSIONS * math.ceil(STEPS / 2)
    assert max(sizes) == BATCH


class Answer(NamedTuple):
    """Of the server, whatever was sent to it."""

    status: int
    text: str

    def check_reason(self) -> None:
        # What the HTTP server itself refuses has its own words.
        if self.status == 400 and not self.text.startswith("{"):
            assert 0 < len(self.text) < 300
        else:
            check_reason(json.loads(self.text))


def send(
    url: str, method: str, path: str, headers: Mapping[str, str], body: Any, **how: bool
) -> Answer:
    """A request as it is: clients for users mend paths and lengths."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    try:
        connection.request(method, path, body, dict(headers), **how)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode())
    finally:
        connection.close()


def test_malformed_requests_get_a_reason(url: str, euler_policy: Exported) -> None:
    with PolicyClient(url, seed=1) as client:
        act = f"{client._path}/act"
        for content, status in BODIES:
            answer = send(url, "POST", act, JSON, content.encode())
            assert answer.status == status, (content[:80], answer)
            answer.check_reason()
        for method, path, headers, body, status in REQUESTS:
            path = path.replace("/sessions/NAME", client._path)
            answer = send(url, method, path, headers, body)
            # uvicorn refuses lengths that are none before the application sees them.
            expected = 400 if "Content-Length" in headers else status
            assert answer.status == expected, (method, path, headers, answer)
            answer.check_reason()
        chunked = JSON | {"Transfer-Encoding": "chunked"}
        answer = send(url, "POST", act, chunked, iter([ACT]), encode_chunked=True)
        assert answer.status == 411
        answer.check_reason()
        # None of them drew noise or took an action.
        alone = Policy(euler_policy.folder, seed=1)
        np.testing.assert_allclose(client.act(GOOD), alone.act(GOOD), atol=5e-5)


def test_reset_and_refusals(url: str) -> None:
    client = PolicyClient(url, seed=1)
    obs = observation(0, 0)
    first = client.act(obs)
    client.reset(seed=1)
    np.testing.assert_array_equal(client.act(obs), first)
    with pytest.raises(ValueError, match=r"refused \(422\): observation: expected numbers"):
        client.act(obs[:2])
    client.close()
    with pytest.raises(ValueError, match=r"refused \(404\): this session is unknown"):
        client.act(obs)


def test_health_and_metrics(url: str) -> None:
    assert requests.get(f"{url}/-/healthz", timeout=60).status_code == 200  # Serve's own
    assert requests.get(f"{url}/health", timeout=60).json() == {"status": "ok"}
    metrics = requests.get(f"{url}/metrics", timeout=60).text
    assert "flow_map_policy_actions_total" in metrics


def test_example(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--url", url, "--env", PARTS_ENV, "--episodes", "2"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *arguments])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "QC, euler"
    assert [line.split(", ")[:2] for line in lines[1:]] == [
        [f"episode {k}: return {PARTS_STEPS}.0", f"{PARTS_STEPS} steps"] for k in range(2)
    ]


def test_wrong_arguments_fail_before_anything_starts(euler_policy: Exported) -> None:
    with pytest.raises(FileNotFoundError, match="is no exported policy"):
        app(ServeArguments(policy="nowhere"))
    with pytest.raises(ValueError, match="selector 'qgbs' is not in"):
        app(ServeArguments(policy=str(euler_policy.folder), selector="qgbs"))
    with pytest.raises(ValueError, match="polcy"):
        ServeArguments.model_validate({"policy": "x", "polcy": "y"})


def test_client_without_a_server() -> None:
    with pytest.raises(ConnectionError, match="no answer from the policy server"):
        PolicyClient("http://127.0.0.1:9", timeout_s=5)
