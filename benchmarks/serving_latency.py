"""Latency and throughput of a served policy under a bounded load.

    rllib export CHECKPOINT -o policy/
    serve run rllib_fmq.serving.serve_app:app policy=policy/ &
    python -m benchmarks.serving_latency policy/ --url http://127.0.0.1:8000

Each session is a thread that sends its next request when the last one is answered. Every action is
compared with that of a local policy with the session's seed, so that no session can have been
served another's chunk. Only one request in H takes a plan; these are also reported by themselves.
``--local`` measures the runtime alone, without a server.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rllib_fmq.atomic import replacing
from rllib_fmq.serving import Policy
from rllib_fmq.serving.client import PolicyClient

TOLERANCE = 1e-3
"""Of the range of an action: batches of other sizes sum in another order."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("policy", type=Path, help="folder that `rllib export` wrote")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--selector", help="what the server was started with")
    parser.add_argument("--backend", default="torch", help="of the local policy")
    parser.add_argument("--local", action="store_true", help="the runtime alone, in one session")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    reference = Policy(args.policy, args.selector, args.backend)
    obs = np.random.default_rng(0).standard_normal(
        (args.requests, reference.info.obs_size), dtype=np.float32
    )
    if args.local:
        result = summary([measure(reference.act, obs)[0]], "local", reference)
    else:
        result = measure_server(args.url, reference, obs, args.sessions)
    print(json.dumps(result, indent=2))
    if args.out:
        with replacing(args.out) as staged:
            staged.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(act: Callable[[np.ndarray], np.ndarray], obs: np.ndarray) -> tuple[list[float], list]:
    """Seconds of each call, and its action."""
    seconds, actions = [], []
    for row in obs:
        start = time.perf_counter()
        actions.append(act(row))
        seconds.append(time.perf_counter() - start)
    return seconds, actions


def measure_server(url: str, reference: Policy, obs: np.ndarray, sessions: int) -> dict:
    """All requests, shared among the sessions; session k has seed k."""
    shares = np.array_split(obs, sessions)

    def run(seed: int) -> tuple[list[float], list]:
        with PolicyClient(url, seed=seed) as client:
            return measure(client.act, shares[seed])

    start = time.perf_counter()
    with ThreadPoolExecutor(sessions) as pool:
        measured = list(pool.map(run, range(sessions)))
    wall = time.perf_counter() - start
    foreign = 0
    scale = np.asarray(reference.info.high - reference.info.low, np.float64)
    for seed, (_, actions) in enumerate(measured):
        reference.reset(seed)
        for row, action in zip(shares[seed], actions, strict=True):
            foreign += bool((np.abs(action - reference.act(row)) > TOLERANCE * scale).any())
    result = summary([seconds for seconds, _ in measured], url, reference)
    return result | {"requests_per_s": len(obs) / wall, "actions_not_of_the_session": foreign}


def summary(seconds: list[list[float]], where: str, policy: Policy) -> dict:
    """Of the sessions' latencies, of all requests and of those that took a plan."""
    every = 1e3 * np.concatenate(seconds)
    plans = 1e3 * np.concatenate([one[:: policy.info.horizon_length] for one in seconds])
    return {
        "where": where,
        "selector": policy.info.selector,
        "sessions": len(seconds),
        "requests": len(every),
        **{f"p{p}_ms": float(np.percentile(every, p)) for p in (50, 99)},
        **{f"plan_p{p}_ms": float(np.percentile(plans, p)) for p in (50, 99)},
        "max_ms": float(every.max()),
    }


if __name__ == "__main__":
    main()
