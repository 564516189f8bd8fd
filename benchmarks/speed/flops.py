"""How many floating point operations an update and a decision need, as a list of products.

Only matrix products are counted, 2 per multiply-add. The default counts are what NEEDS to be done,
not what straightforward code does:

- the observation's part of a first layer is computed once an observation, not once a candidate,
  and the part of flow times that all candidates share once a batch;
- only Q_1 is differentiated for FMQ's guidance, only with respect to the action;
- a tangent (Eq. 5's JVP) enters the first layer through the action and F(r) alone;
- first layers have no input gradients, frozen networks no kernel gradients;
- the activations with which QGBS scored a particle serve its gradient too.

What could be shared between two losses (the observation's part of the diagonal and of the
distillation loss) counts twice. ``naive=True`` gives what the plain baseline does, to the digit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from benchmarks.speed.problem import EULER_STEPS, NUM_CANDIDATES, Method, Sizes

Selector = Literal["sample", "best_of_n", "qgbs", "euler"]
Layers = list[tuple[int, int]]


@dataclass(frozen=True)
class Gemm:
    """``count`` products (m, k) x (k, n) of one part of the work."""

    m: int
    k: int
    n: int
    count: int
    part: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(m, k, n)."""
        return self.m, self.k, self.n

    @property
    def flops(self) -> int:
        """2 m k n, ``count`` times."""
        return 2 * self.m * self.k * self.n * self.count


def total(gemms: Iterable[Gemm]) -> int:
    """Operations of all products."""
    return sum(gemm.flops for gemm in gemms)


def by_part(gemms: Iterable[Gemm]) -> dict[str, int]:
    """Operations of each part, in the order of the list."""
    parts: dict[str, int] = {}
    for gemm in gemms:
        parts[gemm.part] = parts.get(gemm.part, 0) + gemm.flops
    return parts


def _layers(*widths: int) -> Layers:
    return list(itertools.pairwise(widths))


def _forward(part: str, rows: int, layers: Layers, count: int = 1) -> list[Gemm]:
    return [Gemm(rows, k, n, count, part) for k, n in layers]


def _kernels_backward(part: str, rows: int, layers: Layers, count: int = 1) -> list[Gemm]:
    """Gradients of every kernel, and of every layer's input but the first's."""
    kernels = [Gemm(k, rows, n, count, part) for k, n in layers]
    return kernels + _inputs_backward(part, rows, layers, 0, count)


def _inputs_backward(part: str, rows: int, layers: Layers, size: int, count: int = 1) -> list[Gemm]:
    """Gradients of the hidden layers' inputs, and of ``size`` of the network's own."""
    gemms = [Gemm(rows, n, k, count, part) for k, n in layers[1:]]
    return gemms + ([Gemm(rows, layers[0][1], size, count, part)] if size else [])


class _Counter:
    """Counts for one problem, either the least or the naive ones."""

    def __init__(self, sizes: Sizes, naive: bool) -> None:
        self.sizes, self.naive = sizes, naive
        self.times = 2 * sizes.time_features
        self.actor = _layers(
            sizes.obs_dim + sizes.action_size + self.times, *sizes.hidden, sizes.action_size
        )
        self.critic = _layers(sizes.obs_dim + sizes.action_size, *sizes.hidden, 1)

    def _candidates(
        self, part: str, obs: int, each: int, layers: Layers, runs: int, members: int
    ) -> list[Gemm]:
        """``runs`` evaluations of ``each`` candidates of ``obs`` observations."""
        if self.naive:
            return _forward(part, obs * each, layers, runs * members)
        s, width = self.sizes, layers[0][1]
        rest = _forward(part, obs * each, layers[1:], runs * members)
        if each * runs == 1:  # nothing to share: one product for observation and action
            first = [Gemm(obs, s.obs_dim + s.action_size, width, members, part)]
        else:
            first = [
                Gemm(obs, s.obs_dim, width, members, part),
                Gemm(obs * each, s.action_size, width, runs * members, part),
            ]
        return first + rest

    def jumps(self, part: str, obs: int, each: int, steps: int = 1) -> list[Gemm]:
        """The actor at candidates, at times that all of them share."""
        gemms = self._candidates(part, obs, each, self.actor, steps, 1)
        if not self.naive:
            gemms.append(Gemm(steps, self.times, self.actor[0][1], 1, part))
        return gemms

    def scores(self, part: str, obs: int, each: int) -> list[Gemm]:
        """All critics at candidates."""
        return self._candidates(part, obs, each, self.critic, 1, self.sizes.num_critics)

    def selection(self, part: str, obs: int, each: int, steps: int = 1) -> list[Gemm]:
        """Best of N: the actor's part and the critics'; a single candidate is not scored."""
        gemms = self.jumps(f"{part} actions (actor)", obs, each, steps)
        return gemms + (self.scores(f"{part} scoring (critics)", obs, each) if each > 1 else [])

    def critic_loss(self) -> list[Gemm]:
        batch, members = self.sizes.batch_size, self.sizes.num_critics
        return [
            *_forward("target critics", batch, self.critic, members),
            *_forward("critic forward", batch, self.critic, members),
            *_kernels_backward("critic backward", batch, self.critic, members),
        ]

    def diagonal(self) -> list[Gemm]:
        batch = self.sizes.batch_size
        return [
            *_forward("diagonal forward", batch, self.actor),
            *_kernels_backward("diagonal backward", batch, self.actor),
        ]

    def eulerian(self) -> list[Gemm]:
        s = self.sizes
        moved = self.actor[0][0] if self.naive else s.action_size + s.time_features
        tangent = [(moved, self.actor[0][1]), *self.actor[1:]]
        # torch multiplies the input by the kernel's tangent too, a matrix of zeros.
        products = 2 if self.naive else 1
        return [
            *_forward("distillation forward (primal)", s.batch_size, self.actor),
            *_forward("distillation forward (tangent)", s.batch_size, tangent, products),
            *_kernels_backward("distillation backward", s.batch_size, self.actor),
        ]

    def q_guidance(self) -> list[Gemm]:
        s = self.sizes
        seen = self.critic[0][0] if self.naive else s.action_size
        return [
            *_forward("reference forward", s.batch_size, self.actor),
            *_forward("guidance forward", s.batch_size, self.critic, s.num_critics),
            *_inputs_backward("guidance backward", s.batch_size, self.critic, seen),
            *_forward("student forward", s.batch_size, self.actor),
            *_kernels_backward("student backward", s.batch_size, self.actor),
        ]

    def qgbs(self, obs: int, width: int, iters: int, branches: int) -> list[Gemm]:
        gemms = self.jumps("samples (actor)", obs, width)
        for _ in range(iters):
            gemms += self.jumps("branches (actor)", obs, width * branches)
            gemms += self.scores("branch scoring (critics)", obs, width * branches)
            gemms += self._climb(obs, width, scored=True)
        if not iters:
            gemms += self._climb(obs, width, scored=False)
        return gemms + self.scores("final scoring (critics)", obs, width)

    def _climb(self, obs: int, width: int, scored: bool) -> list[Gemm]:
        """The critics' gradient; every row may need another member's, so all are counted."""
        part, members = "guidance backward", self.sizes.num_critics
        seen = self.critic[0][0] if self.naive else self.sizes.action_size
        forward = [] if scored and not self.naive else self.scores("guidance forward", obs, width)
        return forward + _inputs_backward(part, obs * width, self.critic, seen, members)


def update(
    sizes: Sizes,
    method: Method = "FMQ",
    online: bool = False,
    target_candidates: int = 1,
    naive: bool = False,
) -> list[Gemm]:
    """Products of one update with the Eulerian loss as the distillation.

    Args:
        sizes: Of batch and networks.
        method: "FMQ", "MVP" or "QC".
        online: Whether the online phase's actor loss applies.
        target_candidates: N of the critic target's action.
        naive: What straightforward code does, instead of the least.
    Returns:
        In the order of the work.
    """
    count = _Counter(sizes, naive)
    steps = EULER_STEPS if method == "QC" else 1
    gemms = count.selection("target", sizes.batch_size, target_candidates, steps)
    gemms += count.critic_loss()
    if method == "QC":
        return gemms + count.diagonal()
    if method == "FMQ" and online:
        return gemms + count.q_guidance()
    if online:
        gemms += count.selection("imitation", sizes.batch_size, NUM_CANDIDATES)
    return gemms + count.diagonal() + count.eulerian()


def decision(
    sizes: Sizes,
    selector: Selector,
    num_obs: int = 1,
    naive: bool = False,
    *,
    num_candidates: int = NUM_CANDIDATES,
    euler_steps: int = EULER_STEPS,
    beam_width: int = 4,
    search_iters: int = 1,
    branches: int = 4,
) -> list[Gemm]:
    """Products of choosing one chunk for each of some observations.

    Args:
        sizes: Of the networks; the batch size is not used.
        selector: Which one.
        num_obs: Observations planned together.
        naive: What straightforward code does, instead of the least.
        num_candidates: N of best-of-N and of Euler's.
        euler_steps: Steps of Euler's method.
        beam_width: M of QGBS.
        search_iters: K of QGBS.
        branches: B of QGBS.
    """
    count = _Counter(sizes, naive)
    if selector == "sample":
        return count.selection("sample", num_obs, 1)
    if selector == "best_of_n":
        return count.selection("candidate", num_obs, num_candidates)
    if selector == "euler":
        return count.selection("candidate", num_obs, num_candidates, euler_steps)
    return count.qgbs(num_obs, beam_width, search_iters, branches)
