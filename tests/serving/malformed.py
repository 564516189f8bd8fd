"""Malformed requests, and the status that each gets, for a policy of three observed numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rllib_fmq.serving.http_api import LARGEST_BODY

GOOD = [0.5, -1.0, 2.0]


def bodies() -> Iterator[tuple[str, int]]:
    """Malformed bodies of a request for an action, and the status that each gets."""
    values: list[Any] = [
        *(None, True, False, 0, 1.5, "", "text", "[1, 2, 3]", {}, []),
        *([1.0], [1.0, 2.0], [1.0] * 4, [1.0] * 1_000, [[1.0, 2.0, 3.0]], [[1.0], [2.0], [3.0]]),
        *([1.0, 2.0, None], [1.0, 2.0, True], [1.0, 2.0, "3"], [1.0, 2.0, ""], ["a", "b", "c"]),
        *([1.0, 2.0, []], [1.0, 2.0, [3.0]], [1.0, 2.0, {}], [{"x": 1.0}, 2.0, 3.0], [[], [], []]),
        *([1.0, 2.0, 1e39], [1.0, 2.0, -1e300], [10**40, 0, 0], [10**400, 0, 0], [None] * 3),
        *({"a": 1.0}, {"goal": [1.0, 2.0]}, {"0": 1.0, "1": 2.0, "2": 3.0}, {"": []}),
        *({"observation": GOOD}, {"goal": {"arm": [1.0]}}, [GOOD, GOOD], [[[[GOOD]]]], ["NaN"] * 3),
    ]
    for value in values:
        yield json.dumps({"observation": value}), 422
    deep: Any = 1.0
    for _ in range(20):
        deep = [deep]
    yield json.dumps({"observation": deep}), 422
    good = json.dumps(GOOD)
    for body in (
        *("null", "true", "3", '"text"', "[]", "{}", good, f"[{good}]", f'{{"obs": {good}}}'),
        *(f'{{"Observation": {good}}}', f'{{"observation": {good}, "seed": 1}}'),
        *(f'{{"observation": {good}, "extra": null}}', f'{{"observation ": {good}}}'),
        *('{"observation": [NaN, 0, 0]}', '{"observation": [Infinity, 0, 0]}'),
        *('{"observation": [-Infinity, 0, 0]}', '{"observation": [1e999, 0, 0]}'),
        *("", " ", "{", "}", "[", '{"observation"', '{"observation":', '{"observation": }'),
        *('{"observation": [1, 2, 3}', '{"observation": [1, 2, 3]', '{"observation": [1, 2, 3]}}'),
        *("{observation: [1, 2, 3]}", "{'observation': [1, 2, 3]}", '{"observation": [1, 2, 3,]}'),
        *('{"observation": [01, 2, 3]}', '{"observation": [+1, 2, 3]}', '{"observation": [.5, 2]}'),
        *('{"observation": [0x1, 2, 3]}', '{"observation": [1 2 3]}', "<observation/>", "\x00"),
        *("observation=1&observation=2", '{"observation": undefined}', "\ufeff{}", "None"),
    ):
        yield body, 422
    yield '{"observation": ' + "[" * 100_000, 400
    yield '{"observation": [' + "9" * 10_000 + ", 0, 0]}", 400


BODIES = list(bodies())

JSON = {"Content-Type": "application/json"}
ACT = b'{"observation": [0, 0, 0]}'
REQUESTS: list[tuple[str, str, dict[str, str], bytes, int]] = [
    ("POST", "/sessions/unknown/act", JSON, ACT, 404),
    ("POST", "/sessions/unknown/reset", JSON, b"", 404),
    ("DELETE", "/sessions/unknown", {}, b"", 404),
    ("POST", "/sessions/../act", JSON, ACT, 404),
    ("POST", "/sessions/%00/act", JSON, ACT, 404),
    ("POST", "/sessions//act", JSON, ACT, 404),
    ("POST", "/", JSON, ACT, 404),
    ("POST", "/act", JSON, ACT, 404),
    ("GET", "/unknown", {}, b"", 404),
    ("GET", "/sessions", {}, b"", 405),
    ("DELETE", "/sessions", {}, b"", 405),
    ("PUT", "/sessions", JSON, b"{}", 405),
    ("PATCH", "/sessions/NAME/act", JSON, ACT, 405),
    ("GET", "/sessions/NAME/act", {}, b"", 405),
    ("DELETE", "/sessions/NAME/act", {}, b"", 405),
    ("POST", "/sessions/NAME", JSON, ACT, 405),
    ("POST", "/health", JSON, b"", 405),
    ("POST", "/sessions/NAME/act", {"Content-Type": "text/plain"}, ACT, 422),
    ("POST", "/sessions/NAME/act", {"Content-Type": "application/xml"}, ACT, 422),
    ("POST", "/sessions/NAME/act", JSON, b"\xff\xfe\x00", 400),
    ("POST", "/sessions/NAME/act", JSON, b" " * (LARGEST_BODY + 1), 413),
    ("POST", "/sessions/NAME/act", JSON | {"Content-Length": "1e3"}, ACT, 411),
    ("POST", "/sessions/NAME/act", JSON | {"Content-Length": "9" * 30}, ACT, 413),
    ("POST", "/sessions", JSON, b'{"seed": -1}', 422),
    ("POST", "/sessions", JSON, b'{"seed": 1.5}', 422),
    ("POST", "/sessions", JSON, b'{"seed": true}', 422),
    ("POST", "/sessions", JSON, b'{"seed": "1"}', 422),
    ("POST", "/sessions", JSON, b'{"seed": 9223372036854775808}', 422),
    ("POST", "/sessions", JSON, b'{"seeds": 1}', 422),
    ("POST", "/sessions", JSON, b"[]", 422),
    ("POST", "/sessions/NAME/reset", JSON, b'{"seed": -1}', 422),
    ("POST", "/sessions/NAME/reset", JSON, b'{"seed": [1]}', 422),
]


def check_reason(content: Any) -> None:
    """Of the answer's JSON."""
    assert set(content) == {"error"} and 0 < len(content["error"]) < 300, content
