"""Client of a served policy, with the runtime's methods: ``reset()`` and ``act(obs)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import requests

from rllib_fmq.serving.policy import Action


class PolicyClient:
    """One session with a policy server.

    Args:
        url: Of the server, such as ``http://127.0.0.1:8000``.
        seed: Of the session's noise; None: fresh.
        timeout_s: Of a request.
    Raises:
        ConnectionError: If the server cannot be reached.
        ValueError: If it refuses; with its reason.
    """

    def __init__(self, url: str, seed: int | None = None, timeout_s: float = 30.0) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._http = requests.Session()
        opened = self._call("POST", "/sessions", {"seed": seed})
        self._path = f"/sessions/{opened.pop('session')}"
        self.info: dict[str, Any] = opened
        """As ``GET /policy`` describes the policy."""

    def act(self, obs: Any) -> Action:
        """The next action.

        Args:
            obs: As the environment gave it: a vector, or a mapping of arrays.
        Returns:
            In the environment's units, of its action's shape and dtype.
        Raises:
            ConnectionError: If the server cannot be reached.
            ValueError: If the observation is not finite, or the server refuses; with its reason.
        """
        answer = self._call("POST", f"{self._path}/act", {"observation": _plain(obs)})
        return np.asarray(answer["action"], self.info["action_dtype"])

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode; the rest of the chunk is dropped.

        Args:
            seed: Begins the noise anew; None: it goes on.
        """
        self._call("POST", f"{self._path}/reset", {"seed": seed})

    def close(self) -> None:
        """End the session."""
        try:
            self._call("DELETE", self._path)
        finally:
            self._http.close()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except (ConnectionError, ValueError):
            if kind is None:  # else the body's own error says more
                raise

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            answer = self._http.request(
                method, self._url + path, json=body, timeout=self._timeout_s
            )
        except requests.RequestException as error:
            raise ConnectionError(
                f"no answer from the policy server {self._url} ({type(error).__name__}): does "
                "`serve status` show it running?"
            ) from error
        if not answer.ok:
            raise ValueError(f"the policy server refused ({answer.status_code}): {_reason(answer)}")
        return dict(answer.json()) if answer.content else {}


def _reason(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]


def _plain(obs: Any) -> Any:
    """The observation in JSON's types."""
    if isinstance(obs, Mapping):
        return {str(key): _plain(value) for key, value in obs.items()}
    array = np.asarray(obs)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("observation holds numbers that are not finite.")
    return array.tolist()
