"""Groups of cells that are timed interleaved, and compared within the group only."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.speed import flops, plain
from benchmarks.speed.ceiling import Ceiling
from benchmarks.speed.ours import (
    OurLoop,
    make_config,
    make_module,
    selector_settings,
    to_windows,
)
from benchmarks.speed.problem import EULER_STEPS, NUM_CANDIDATES, UPDATES, Sizes, random_batch

Cells = dict[str, Callable[[], Any]]
SCORING = "min"
"""Of candidates when acting: the package's default."""


def has_jax() -> bool:
    """Whether the extra ``bench`` is installed."""
    return all(importlib.util.find_spec(name) for name in ("jax", "flax", "optax"))


def update_cells(
    sizes: Sizes, name: str, ceiling: Ceiling, *, compiled: bool = True, jax_too: bool = True
) -> Cells:
    """One update of ``problem.UPDATES``: plain, jax, rllib_fmq, eager, ceiling.

    Args:
        sizes: Of networks and batch.
        name: Of the update.
        ceiling: With the update's shapes measured.
        compiled: Whether to have the cell "rllib_fmq", which is "eager" compiled.
        jax_too: Whether to have the cell "jax".
    """
    s, arrays, chosen = sizes, random_batch(sizes), UPDATES[name]
    settings = (s.obs_dim, s.action_dim, s.horizon, s.batch_size, *chosen, 0, s.hidden)
    straightforward, batch = plain.PlainLoop(*settings), plain.to_batch(arrays)
    windows, eager = to_windows(arrays), OurLoop(sizes, *chosen)
    cells: Cells = {"plain": lambda: straightforward.update(batch)}
    if jax_too:
        from benchmarks.speed import jax_loop

        on_device, jitted = jax_loop.jax.device_put(arrays), jax_loop.JaxLoop(*settings)
        cells["jax"] = lambda: jitted.update(on_device)
    if compiled:
        fast = OurLoop(sizes, *chosen, compiled=True)
        cells["rllib_fmq"] = lambda: fast.update(windows)
    cells["eager"] = lambda: eager.update(windows)
    cells["ceiling"] = ceiling.cell(flops.update(sizes, *chosen))
    return cells


def decision_cells(sizes: Sizes, num_obs: int) -> Cells:
    """Choosing a chunk for some observations: ours, and plain's, with every selector."""
    config = make_config(sizes)
    module = make_module(config, sizes)
    nets = plain.Nets.create(sizes.obs_dim, sizes.action_size, sizes.hidden)
    generator, plain_generator = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    obs = torch.randn(num_obs, sizes.obs_dim, generator=generator)
    cells: Cells = {}

    def add(kind: str) -> None:
        settings = selector_settings(config, kind)
        cells[kind] = lambda: module.plan(obs, settings, generator)

    def normal(*count: int) -> torch.Tensor:
        return torch.randn(num_obs, *count, sizes.action_size, generator=plain_generator)

    for kind in ("sample", "best_of_n", "qgbs", "euler"):
        add(kind)
    cells["plain sample"] = lambda: plain.sample(nets, obs, normal())
    cells["plain best_of_n"] = lambda: plain.best_of_n(nets, obs, normal(NUM_CANDIDATES), SCORING)
    cells["plain qgbs"] = lambda: plain.qgbs(nets, obs, normal(4), [normal(16)], scoring=SCORING)
    cells["plain euler"] = lambda: plain.euler_best_of_n(
        nets, obs, normal(NUM_CANDIDATES), EULER_STEPS, SCORING
    )
    return cells


def replay_cells(rows: int) -> Cells:
    """Drawing a batch of 256 windows: replay, numpy gather, contiguous."""
    from benchmarks import replay_sampling

    return replay_sampling.cells(rows)


def decision_work(sizes: Sizes, num_obs: int) -> dict[str, dict[str, int]]:
    """Operations, and bytes of weights that pass through the core, of each selector."""
    work = {}
    for kind in ("sample", "best_of_n", "qgbs", "euler"):
        gemms = flops.decision(sizes, kind, num_obs)
        read = sum(4 * gemm.k * gemm.n * gemm.count for gemm in gemms)
        work[kind] = {"flops": flops.total(gemms), "bytes": read}
    return work
