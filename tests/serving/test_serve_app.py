"""The application in Ray Serve: concurrent sessions over HTTP, each with its own chunks."""

from __future__ import annotations

import runpy
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("onnxscript")

import requests
from ray import serve

from rllib_fmq.serving import Policy
from rllib_fmq.serving.client import PolicyClient
from rllib_fmq.serving.serve_app import ServeArguments, app
from tests.serving.conftest import OBS_SIZE, PARTS_ENV, PARTS_STEPS, Exported

# Two replicas and Serve's own processes start, on a machine that may be busy.
pytestmark = pytest.mark.timeout(1_800)
SESSIONS, STEPS = 6, 9
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "serve_client.py"


def observation(session: int, step: int) -> np.ndarray:
    return np.random.default_rng([session, step]).standard_normal(OBS_SIZE).astype(np.float32)


@pytest.fixture(scope="module")
def url(ray_session: None, euler_policy: Exported) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    arguments = ServeArguments(policy=str(euler_policy.folder), max_sessions=SESSIONS + 2)
    serve.run(app(arguments), name="policy", route_prefix="/")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def test_each_session_acts_as_a_policy_of_its_own(url: str, euler_policy: Exported) -> None:
    def act(seed: int) -> list[np.ndarray]:
        with PolicyClient(url, seed=seed) as client:
            assert client.info["horizon_length"] == 2
            return [client.act(observation(seed, step)) for step in range(STEPS)]

    with ThreadPoolExecutor(SESSIONS) as pool:
        served = list(pool.map(act, range(SESSIONS)))
    policy = Policy(euler_policy.folder)
    for seed, actions in enumerate(served):
        policy.reset(seed)
        alone = [policy.act(observation(seed, step)) for step in range(STEPS)]
        np.testing.assert_allclose(actions, alone, atol=5e-5)
        assert actions[0].dtype == np.float32


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
