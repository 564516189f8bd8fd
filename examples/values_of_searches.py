"""Which search finds the actions that the critics value most? Compared without an environment.

    python examples/values_of_searches.py RUN [RUN ...] --dataset cube-single-play-v0.npz

Each policy chooses one action chunk for the same observations of the dataset with each selector. Q
is that of the policy's own critics, the smaller one, which also guides the search: a search that
finds more of it may still succeed less often, where the critics are wrong. ``nearest`` is the
distance of the chosen chunk to the nearest of 32 samples of the policy, and ``|Q1 - Q2|`` the
disagreement of the critics there. Beside success (examples/evaluate_all_selectors.py) that tells a
search that finds too little from critics that lead it astray.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rllib_fmq.data.loading import load_dataset
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.rollout.checkpoints import load_policy

SELECTORS = {
    "sample": SelectorSettings(kind="sample"),
    "best of 4": SelectorSettings(kind="best_of_n", num_candidates=4),
    "best of 16": SelectorSettings(kind="best_of_n", num_candidates=16),
    "best of 32": SelectorSettings(kind="best_of_n", num_candidates=32),
    "qgbs, only the step (K=0)": SelectorSettings(kind="qgbs", search_iters=0),
    "qgbs, no step (eta=0)": SelectorSettings(kind="qgbs", eta=0.0),
    "qgbs": SelectorSettings(kind="qgbs"),
    "qgbs, snr=6": SelectorSettings(kind="qgbs", snr=6.0),
    "qgbs M=16": SelectorSettings(kind="qgbs", beam_width=16),
}
SAMPLES = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("checkpoints", type=Path, nargs="+", help="checkpoints or trial folders")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--observations", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    tables = []
    for checkpoint in args.checkpoints:
        module, config = load_policy(checkpoint)
        obs = observations(args.dataset, str(config.env), args.observations, args.seed)
        tables.append(compare(module, obs, args.seed))
    means = sum(tables[1:], start=tables[0]) / len(tables)
    print(f"mean over {len(tables)} policies, {args.observations} observations each")
    print(means.to_string(float_format="%.2f"))
    gains = pd.DataFrame(
        {i: table["Q"] - table.loc["best of 32", "Q"] for i, table in enumerate(tables)}
    )
    print("\nQ minus that of best of 32, lowest and highest of the policies")
    print(
        pd.DataFrame({"lowest": gains.min(axis=1), "highest": gains.max(axis=1)}).to_string(
            float_format="%+.2f"
        )
    )


def observations(dataset: Path, env: str, number: int, seed: int) -> torch.Tensor:
    """Drawn without replacement from the dataset, shape (number, o)."""
    table = load_dataset(dataset, env)
    rows = np.random.default_rng(seed).choice(table.num_steps, number, replace=False)
    return torch.as_tensor(np.asarray(table.obs[np.sort(rows)], dtype=np.float32))


@torch.no_grad()
def compare(module: FlowMapModule, obs: torch.Tensor, seed: int) -> pd.DataFrame:
    """One row a selector."""

    def choose(selector: SelectorSettings, offset: int = 0) -> torch.Tensor:
        return module.plan(obs, selector, torch.Generator().manual_seed(seed + offset)).actions

    sample = SELECTORS["sample"]
    samples = torch.stack([choose(sample, offset) for offset in range(1, SAMPLES + 1)])
    rows = {}
    for name, selector in SELECTORS.items():
        actions = choose(selector)
        q1, q2, *_ = module.critics(obs, actions)
        rows[name] = {
            "NFE": selector.nfe,
            "Q": torch.minimum(q1, q2).mean().item(),
            "|Q1 - Q2|": (q1 - q2).abs().mean().item(),
            "nearest": (samples - actions).norm(dim=-1).amin(0).mean().item(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


if __name__ == "__main__":
    main()
