"""What each optimisation gains: the code with it and without it, interleaved in one process.

    python -m benchmarks.speed.ablations --rounds 9

One core, one thread, the paper's sizes. "Without" is the straightforward form of the same step
and gives the same numbers (tests/nn/test_agreement.py).
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable
from typing import Any

from benchmarks.speed.process import one_thread

PAIRS: dict[str, tuple[str, str]] = {
    "GELU as x sigmoid(2z), no gradient (torch's tanh form)": ("gelu ours", "gelu torch"),
    "Linear and GELU in one oneDNN product, 1024 rows": ("fused linear", "linear then gelu"),
    "best-of-32 target: blocks, packed weights, folded normalisation": ("blocks", "whole"),
    "best-of-32 target: the same compiled": ("blocks compiled", "blocks"),
    "diagonal and Eulerian loss in one pass (eager)": ("joint", "apart"),
    "diagonal and Eulerian loss, compiled": ("joint compiled", "joint"),
    "weight gradients in the weight's layout (critic loss, eager)": ("own layout", "transposed"),
    "foreach lerp of the target critics": ("lerp foreach", "lerp loop"),
    "freed memory kept by malloc (8192 x 512 product and GELU)": ("keeping", "returning"),
    "one observation, QGBS: gradient by hand": ("by hand", "autograd"),
}
"""Optimisation -> cell with it, cell without it."""


def cells() -> dict[str, Callable[[], Any]]:
    """All cells; the processes' settings must have been made before."""
    import torch
    import torch.nn.functional as F

    from benchmarks.speed import problem
    from benchmarks.speed.plain import to_batch
    from rllib_fmq import flow
    from rllib_fmq.flow.critic import aggregate
    from rllib_fmq.flow.selection import SelectorSettings, select_actions, select_bound
    from rllib_fmq.learner.memory import KEPT_BYTES, keep_freed_memory
    from rllib_fmq.nn import activations, critic_ensemble, network_views
    from rllib_fmq.nn.compilation import maybe_compiled
    from rllib_fmq.nn.draws import draw_imitation
    from rllib_fmq.nn.network_policy import NetworkPolicy
    from rllib_fmq.nn.velocity_field import VelocityField

    sizes = problem.CUBE_DOUBLE
    o, size = sizes.obs_dim, sizes.action_size
    actor = VelocityField(o, size)
    critics = critic_ensemble.CriticEnsemble(o, size)
    targets = critic_ensemble.CriticEnsemble(o, size)
    batch = to_batch(problem.random_batch(sizes))
    views = network_views.NetworkViews(actor, critics, o)
    wide, weight, bias = torch.randn(1024, 512), torch.randn(512, 512) / 22.0, torch.zeros(512)
    generator = torch.Generator().manual_seed(0)
    best, beam = SelectorSettings("best_of_n"), SelectorSettings("qgbs")
    one = torch.randn(1, o)

    def no_grad(function: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return function()

        return run

    def target(compiled: bool) -> Any:
        policy = NetworkPolicy(views, batch.next_obs, "mean", compiled=compiled)
        return select_bound(best, policy, batch.next_obs, size, generator)

    def plainly(settings: SelectorSettings, obs: Any, how: Any) -> Any:
        score = lambda s, a: aggregate(critics(s, a), how)  # noqa: E731
        return select_actions(settings, actor, score, obs, size, generator)

    def act(settings: SelectorSettings, networks: Any) -> Any:
        return select_bound(settings, NetworkPolicy(networks, one, "min"), one, size, generator)

    draws = draw_imitation(batch.actions, generator, diagonal=True, interval_factor=1.0)

    def joint(u: VelocityField, obs: Any, actions: Any, valid: Any, drawn: Any) -> Any:
        a_t = flow.interpolate(drawn.diagonal.noise, actions, drawn.diagonal.t)
        a_r = flow.interpolate(drawn.pair.noise, actions, drawn.pair.r)
        v = actions - drawn.pair.noise
        start = torch.cat([drawn.diagonal.t, drawn.pair.r])
        end = torch.cat([drawn.diagonal.t, drawn.pair.t])
        both, du = u.with_tangent(torch.cat([obs, obs]), torch.cat([a_t, a_r]), start, end, v)
        on_diagonal, off = both.chunk(2)
        goal = (v + (drawn.pair.t - drawn.pair.r) * du).detach()
        return flow.masked_mse(on_diagonal, actions - drawn.diagonal.noise, valid) + (
            flow.masked_mse(off, goal, valid)
        )

    def apart() -> Any:
        velocity = lambda a, r, t: actor(batch.obs, a, r, t)  # noqa: E731
        d, p = draws.diagonal, draws.pair
        assert d is not None and p is not None
        return flow.diagonal_loss(
            velocity, d.noise, batch.actions, d.t, batch.valid
        ) + flow.eulerian_loss(velocity, p.noise, batch.actions, p.r, p.t, batch.valid)

    def both_losses(compiled: bool) -> Any:
        function = maybe_compiled(joint, compiled)
        return function(actor, batch.obs, batch.actions, batch.valid, draws)

    def backward(loss: Callable[[], Any], module: Any) -> Callable[[], None]:
        def run() -> None:
            module.zero_grad(set_to_none=True)
            loss().backward()

        return run

    def transposed() -> Any:
        x = torch.cat([batch.obs, batch.actions], dim=-1).expand(2, -1, -1)
        for w, b, scale, shift in critics.hidden_layers():
            x = activations.gelu(torch.baddbmm(b, x, w.mT))
            x = torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), scale)
        return torch.baddbmm(critics.biases[-1], x, critics.weights[-1].mT).square().mean()

    def lerp_loop() -> None:
        for slow, quick in zip(targets.parameters(), critics.parameters(), strict=True):
            slow.lerp_(quick, 0.005)

    def lerp_foreach() -> None:
        torch._foreach_lerp_(list(targets.parameters()), list(critics.parameters()), 0.005)

    mallopt = ctypes.CDLL(None).mallopt
    many = torch.randn(8192, 512)

    def allocating(keep: bool) -> Callable[[], None]:
        def run() -> None:
            if keep:
                keep_freed_memory()
            else:
                mallopt(-1, 128 * 1024)
                mallopt(-3, 128 * 1024)
            F.gelu(F.linear(many, weight, bias), approximate="tanh")
            mallopt(-1, KEPT_BYTES)
            keep_freed_memory()

        return run

    linear_gelu = activations.linear_gelu
    return {
        "gelu ours": no_grad(lambda: activations.gelu(wide)),
        "gelu torch": no_grad(lambda: F.gelu(wide, approximate="tanh")),
        "fused linear": no_grad(lambda: linear_gelu(wide, weight, bias)),
        "linear then gelu": no_grad(
            lambda: F.gelu(F.linear(wide, weight, bias), approximate="tanh")
        ),
        "blocks": no_grad(lambda: target(False)),
        "blocks compiled": no_grad(lambda: target(True)),
        "whole": no_grad(lambda: plainly(best, batch.next_obs, "mean")),
        "joint": backward(lambda: both_losses(False), actor),
        "joint compiled": backward(lambda: both_losses(True), actor),
        "apart": backward(apart, actor),
        "own layout": backward(lambda: critics(batch.obs, batch.actions).square().mean(), critics),
        "transposed": backward(transposed, critics),
        "lerp foreach": no_grad(lerp_foreach),
        "lerp loop": no_grad(lerp_loop),
        "keeping": no_grad(allocating(True)),
        "returning": no_grad(allocating(False)),
        "by hand": no_grad(lambda: act(beam, views)),
        "autograd": no_grad(lambda: plainly(beam, one, "min")),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--minutes", type=float, default=10.0, help="at most, about")
    args = parser.parse_args()
    one_thread()

    import torch

    from benchmarks.speed.timing import interleave
    from rllib_fmq.learner.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    timings = interleave(cells(), args.rounds, budget_seconds=60.0 * args.minutes)
    print("| optimisation | time without / with |\n|---|---|")
    for name, (with_it, without) in PAIRS.items():
        spread = timings.ratio(without, with_it)
        print(f"| {name} | {spread.median:.2f} [{spread.lower:.2f}, {spread.upper:.2f}] |")


if __name__ == "__main__":
    main()
