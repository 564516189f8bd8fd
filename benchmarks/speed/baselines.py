"""The two baselines beside each other, and beside the ceiling of the least work.

    python -m benchmarks.speed.baselines --rounds 7 --task cube-double [--cells FMQ-online-32 ...]

One process, one core, one thread. Prints ratios of medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from benchmarks.speed import problem

TASKS = {"cube-double": problem.CUBE_DOUBLE, "antmaze-giant": problem.ANTMAZE_GIANT}
CELLS: dict[str, tuple[problem.Method, bool, int]] = {
    "FMQ-offline-1": ("FMQ", False, 1),
    "FMQ-offline-32": ("FMQ", False, 32),
    "FMQ-online-1": ("FMQ", True, 1),
    "FMQ-online-32": ("FMQ", True, 32),
    "MVP-online-1": ("MVP", True, 1),
    "MVP-online-32": ("MVP", True, 32),
    "QC-1": ("QC", False, 1),
    "QC-32": ("QC", False, 32),
}
"""Method, phase, candidates of the critic target. MVP offline is FMQ offline."""


def one_thread(core: int | None = None) -> None:
    """Keep this process to one core and all libraries to one thread; before they are imported."""
    core = max(os.sched_getaffinity(0)) if core is None else core
    os.sched_setaffinity(0, {core})
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["XLA_FLAGS"] = problem.XLA_FLAGS


def update_cells(
    sizes: problem.Sizes, names: list[str], jax_too: bool = True
) -> dict[str, Callable[[], Any]]:
    """Callables "plain NAME" and "jax NAME", each one update on the same batch."""
    from benchmarks.speed import plain

    arrays = problem.random_batch(sizes)
    batch = plain.to_batch(arrays)
    s, cells = sizes, {}
    for name in names:
        settings = (s.obs_dim, s.action_dim, s.horizon, s.batch_size, *CELLS[name], 0, s.hidden)
        eager = plain.PlainLoop(*settings)
        cells[f"plain {name}"] = lambda loop=eager: loop.update(batch)
        if jax_too:
            from benchmarks.speed import jax_loop

            on_device = jax_loop.jax.device_put(arrays)
            jitted = jax_loop.JaxLoop(*settings)
            cells[f"jax {name}"] = lambda loop=jitted, x=on_device: loop.update(x)
    return cells


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default="cube-double")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=600.0, help="at most, about")
    parser.add_argument("--core", type=int)
    args = parser.parse_args()
    one_thread(args.core)

    import torch

    from benchmarks.speed import flops
    from benchmarks.speed.ceiling import Ceiling
    from benchmarks.speed.timing import interleave

    torch.set_num_threads(1)
    sizes = TASKS[args.task]
    work = {name: flops.update(sizes, *CELLS[name]) for name in args.cells}
    ceiling = Ceiling([gemm for gemms in work.values() for gemm in gemms], rounds=3)
    cells = update_cells(sizes, args.cells)
    cells |= {f"ceiling {name}": ceiling.cell(gemms) for name, gemms in work.items()}
    timings = interleave(cells, args.rounds, budget_seconds=args.seconds)
    print(f"{args.task}, {timings.rounds} rounds: median ratio [quartiles]")
    for name in args.cells:
        line = [f"{name:15}"]
        for a, b in (("plain", "jax"), ("ceiling", "plain"), ("ceiling", "jax")):
            spread = timings.ratio(f"{a} {name}", f"{b} {name}")
            line.append(f"{a}:{b} {spread.median:.2f} [{spread.lower:.2f}, {spread.upper:.2f}]")
        rate = flops.total(work[name]) / timings.seconds(f"ceiling {name}").median
        print("   ".join([*line, f"ceiling {rate / 1e9:.0f} GFLOP/s"]))


if __name__ == "__main__":
    main()
