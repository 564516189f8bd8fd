"""Really compiled updates agree with straightforward ones, and compiling does not give up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch

from benchmarks.speed.problem import Sizes
from rllib_fmq import FMQConfig
from rllib_fmq.nn import compilation
from tests.nn.straightforward import Case, compare

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler"
    ),
]

SIZES = Sizes(obs_dim=5, action_dim=2, horizon=3, batch_size=48, hidden=(32,))
"""Few candidates, yet enough of them that choosing among them is compiled too."""
CASES = {
    "FMQ offline": (Case(FMQConfig, sizes=SIZES), torch.float32),
    "FMQ online": (
        Case(FMQConfig, {"online_diagonal_weight": 0.5}, online=True, sizes=SIZES),
        torch.float32,
    ),
    "FMQ lsd": (
        Case(FMQConfig, {"distillation": "lsd", "target_selector": "sample"}, sizes=SIZES),
        torch.float32,
    ),
    "FMQ psd": (
        Case(FMQConfig, {"distillation": "psd", "target_selector": "sample"}, sizes=SIZES),
        torch.float32,
    ),
}


@pytest.fixture(autouse=True)
def fresh_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new process, whatever was compiled, or failed to be, before."""
    torch._dynamo.reset()
    compilation._compiled.cache_clear()
    monkeypatch.setattr(compilation, "_failed", False)
    yield
    torch._dynamo.reset()
    compilation._compiled.cache_clear()


@pytest.mark.parametrize("name", CASES)
def test_compiled_updates_agree(name: str) -> None:
    case, dtype = CASES[name]
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    compare(case, dtype, compiled=True)
    assert not compilation._failed
    # The losses; what chooses, an actor's block and a critic's; online, FMQ's guidance.
    blocks = 0 if case.training.get("target_selector") == "sample" else 2
    losses = name != "FMQ lsd"  # torch cannot compile a gradient through a forward derivative
    assert graphs["unique_graphs"] - before >= losses + blocks + (name == "FMQ online")
    assert losses or graphs["unique_graphs"] == before
