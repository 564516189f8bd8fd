"""The client without a server: what it refuses itself, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests

from rllib_fmq.serving.client import PolicyClient


class Server:
    """Answers a client's requests, and counts the connections that are closed."""

    def __init__(self) -> None:
        self.refuses_to_close = False
        self.closed = 0

    def answer(self, method: str, url: str, json: Any) -> requests.Response:
        """As ``requests.Session.request``, which encodes the body first."""
        requests.Request(method, url, json=json).prepare()
        response = requests.Response()
        response.status_code = 404 if method == "DELETE" and self.refuses_to_close else 200
        response._content = {
            200: b'{"session": "name", "action": [0.5], "action_dtype": "float32"}',
            404: b'{"error": "this session is unknown"}',
        }[response.status_code]
        return response


@pytest.fixture()
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()

    def request(_: Any, method: str, url: str, json: Any, timeout: float) -> requests.Response:
        return made.answer(method, url, json)

    def close(_: Any) -> None:
        made.closed += 1

    monkeypatch.setattr(requests.Session, "request", request)
    monkeypatch.setattr(requests.Session, "close", close)
    yield made


@pytest.mark.parametrize("obs", [[0.0, np.nan], {"arm": {"joint": np.float32([np.inf])}}])
def test_observations_that_are_not_finite(server: Server, obs: Any) -> None:
    client = PolicyClient("http://server")
    assert client.act([0.0, 1.0]).tolist() == [0.5]
    with pytest.raises(ValueError, match=r"^observation holds numbers that are not finite\.$"):
        client.act(obs)


def test_the_bodys_error_is_told_and_the_connection_closed(server: Server) -> None:
    server.refuses_to_close = True
    with pytest.raises(ZeroDivisionError), PolicyClient("http://server"):
        1 / 0  # noqa: B018
    assert server.closed == 1


def test_a_refusal_to_close_is_told_otherwise(server: Server) -> None:
    server.refuses_to_close = True
    with (
        pytest.raises(ValueError, match=r"refused \(404\): this session is unknown"),
        PolicyClient("http://server"),
    ):
        pass
    assert server.closed == 1
