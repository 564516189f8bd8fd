"""CUDA graphs: a whole update recorded once and replayed, so that launching costs nothing.

What is recorded is a function of tensors that stay where they are: a batch is copied into them,
the recording replayed. Everything else that the function reads (phase, learning rate, curriculum)
is a constant of the recording, and named by a key: another key is recorded anew.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from rllib_fmq.nn.objectives import WindowBatch

Outputs: TypeAlias = dict[str, Tensor]
Step: TypeAlias = Callable[[], Outputs]

WARM_UP = 3
"""Updates that run before one is recorded: libraries and the optimiser set themselves up."""


class CaptureBackend(Protocol):
    """What records and replays."""

    def run(self, step: Step) -> Outputs:
        """Run ``step`` as it is, so that it can be recorded later."""

    def record(self, step: Step) -> Step:
        """Record ``step`` without running it; what is returned replays it."""


class CudaGraphs:
    """Records with ``torch.cuda.CUDAGraph``.

    Args:
        generator: Source of the noise that the recorded function draws; each replay draws on.
    Source: PyTorch's documentation of CUDA graphs.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._side: Any = torch.cuda.Stream(generator.device)  # type: ignore[no-untyped-call]

    def run(self, step: Step) -> Outputs:
        """On a side stream, as recording asks of what precedes it."""
        self._side.wait_stream(torch.cuda.current_stream(self._generator.device))
        with torch.cuda.stream(self._side):
            outputs = step()
        torch.cuda.current_stream(self._generator.device).wait_stream(self._side)
        return outputs

    def record(self, step: Step) -> Step:
        """Recording runs nothing on the device; outputs are the same tensors in every replay."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        with torch.cuda.graph(graph):
            outputs = step()

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay


class CapturedUpdate:
    """Runs updates, the first few of each key as they are, the others by replay.

    Args:
        backend: What records and replays.
        function: One update on a batch, with the constants that its key names; it must take all
            else from tensors that are changed in place.
        warm_up: Updates of a key that precede its recording, >= 1. They count as updates.
    Source: ours.
    """

    def __init__(
        self,
        backend: CaptureBackend,
        function: Callable[[WindowBatch], Outputs],
        warm_up: int = WARM_UP,
    ) -> None:
        if warm_up < 1:
            raise ValueError(f"warm_up={warm_up}: the first update makes the optimiser's state.")
        self._backend = backend
        self._function = function
        self._warm_up = warm_up
        self.forget()

    def forget(self) -> None:
        """Drop the recording, because tensors that it uses were replaced."""
        self._key: Hashable = None
        self._inputs: WindowBatch | None = None
        self._replay: Step | None = None
        self._left = 0

    def __call__(self, batch: WindowBatch, key: Hashable) -> Outputs:
        """One update.

        Args:
            batch: Windows, which are copied.
            key: Every constant that the function reads. Shapes and types of the batch are
                added here.
        Returns:
            What the function returned; the next call overwrites it.
        """
        whole_key = (key, tuple((x.shape, x.dtype) for x in batch))
        if self._inputs is None or whole_key != self._key:
            self.forget()
            self._key, self._left = whole_key, self._warm_up
            self._inputs = WindowBatch(*(x.contiguous().clone() for x in batch))
        else:
            for static, new in zip(self._inputs, batch, strict=True):
                static.copy_(new, non_blocking=True)
        if self._left:
            self._left -= 1
            return self._backend.run(self._step)
        if self._replay is None:
            self._replay = self._backend.record(self._step)
        return self._replay()

    def _step(self) -> Outputs:
        assert self._inputs is not None
        return self._function(self._inputs)
