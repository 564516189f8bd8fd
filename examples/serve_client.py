"""Drive an environment with a policy that is served elsewhere.

    rllib export CHECKPOINT -o policy/
    serve run rllib_fmq.serving.serve_app:app policy=policy/      # in another terminal
    python examples/serve_client.py --env cube-single-play-singletask-task2-v0

The client needs the environment, this package and requests, but no GPU and no checkpoint. Importing
the package loads Ray and RLlib, unless the environment says RLLIB_FMQ_REGISTER=0.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from rllib_fmq.serving.client import PolicyClient
from rllib_fmq.tasks import make_env


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--env", required=True)
    parser.add_argument("--episodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    env = make_env(args.env)
    with PolicyClient(args.url, seed=args.seed) as policy:
        print(f"{policy.info['algorithm']}, {policy.info['selector']}")
        for episode in range(args.episodes):
            obs, _ = env.reset(seed=args.seed + episode)
            policy.reset()
            total, seconds, done = 0.0, [], False
            while not done:
                start = time.perf_counter()
                action = policy.act(obs)
                seconds.append(time.perf_counter() - start)
                obs, reward, terminated, truncated, info = env.step(action)
                total += float(reward)
                done = terminated or truncated
            latency = 1e3 * float(np.median(seconds))
            success = f", success {bool(info['success'])}" if "success" in info else ""
            print(
                f"episode {episode}: return {total:.1f}, {len(seconds)} steps{success}, "
                f"{latency:.1f} ms an action"
            )
    env.close()


if __name__ == "__main__":
    main()
