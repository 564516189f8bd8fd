"""Where compiling fails, the plain functions serve, and a note says so once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo import exc
from torch._inductor.exc import InductorError

from rllib_fmq import FMQConfig, MVPConfig, QCConfig
from rllib_fmq.nn import compilation
from rllib_fmq.nn.compilation import maybe_compiled
from tests.nn.straightforward import Case, compare


def double(x: float) -> float:
    """What is to be compiled."""
    return 2.0 * x


def triple(x: float) -> float:
    """The same."""
    return 3.0 * x


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    compilation._compiled.cache_clear()
    monkeypatch.setattr(compilation, "_failed", False)
    yield
    compilation._compiled.cache_clear()


class Compiler:
    """Stands for ``torch.compile``; what it returns raises ``error`` when called."""

    def __init__(self, error: Callable[[], Exception] | None = None) -> None:
        self.error = error
        self.functions: list[str] = []
        self.options: list[dict[str, Any]] = []
        self.calls = 0

    def __call__(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        self.functions.append(function.__name__)
        self.options.append(options)

        def fast(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.error is not None:
                raise self.error()
            return function(*args, **kwargs)

        return fast


ERRORS = {
    "dynamo": lambda: exc.TorchDynamoException("no\nsecond line"),
    "unsupported": lambda: exc.Unsupported("no"),
    "inductor": lambda: InductorError(RuntimeError("no C++ compiler"), None),
    "recompiled too often": lambda: exc.FailOnRecompileLimitHit("no"),
    "without a message": lambda: exc.TorchDynamoException(),
}


def notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == compilation.__name__]


def test_the_note_names_the_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", Compiler(ERRORS["inductor"]))
    with caplog.at_level(logging.WARNING, logger=compilation.__name__):
        maybe_compiled(double, True)(3.0)
    assert "no C++ compiler" in notes(caplog)[0]


@pytest.mark.parametrize("name", ERRORS)
def test_failing_to_compile(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = Compiler(ERRORS[name])
    monkeypatch.setattr(torch, "compile", compiler)
    with caplog.at_level(logging.WARNING, logger=compilation.__name__):
        assert maybe_compiled(double, True)(3.0) == 6.0
        assert maybe_compiled(double, True)(x=4.0) == 8.0
        assert maybe_compiled(triple, True)(3.0) == 9.0
    assert compiler.calls == 1  # no second attempt, of other functions neither
    (message,) = notes(caplog)
    assert "run uncompiled" in message
    assert "compile_updates=False" in message
    assert "\n" not in message


def test_errors_of_the_function_itself_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", Compiler(lambda: ValueError("bad shapes")))
    with pytest.raises(ValueError, match="bad shapes"):
        maybe_compiled(double, True)(3.0)
    assert not compilation._failed


def test_a_function_is_compiled_once_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = Compiler()
    monkeypatch.setattr(torch, "compile", compiler)
    for _ in range(3):
        assert maybe_compiled(double, True)(3.0) == 6.0
    assert maybe_compiled(triple, True)(3.0) == 9.0
    assert compiler.functions == ["double", "triple"]
    assert compiler.calls == 4
    assert all(options["fullgraph"] for options in compiler.options)


def test_uncompiled_is_the_function_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", Compiler(lambda: AssertionError("compiled")))
    assert maybe_compiled(double, False) is double


def shifted(x: Tensor, by: float) -> Tensor:
    return x + by


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_more_shapes_than_torch_compiles_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Torch refuses to compile one function for ever new shapes; results must come even so."""
    monkeypatch.setattr(compilation, "MOST_VARIANTS", 1)
    torch._dynamo.reset()
    with (
        torch._dynamo.config.patch(recompile_limit=1),
        caplog.at_level(logging.WARNING, logger=compilation.__name__),
    ):
        for size in (1, 2, 3):
            found = maybe_compiled(shifted, True)(torch.zeros(size), 2.0)
            assert torch.equal(found, torch.full((size,), 2.0))
    assert len(notes(caplog)) == 1
    torch._dynamo.reset()


@pytest.mark.parametrize("online", [False, True])
def test_an_update_that_cannot_be_compiled_is_right(
    online: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = Compiler(ERRORS["inductor"])
    monkeypatch.setattr(torch, "compile", compiler)
    case = Case(FMQConfig, {"num_candidates": 16}, online=online)
    with caplog.at_level(logging.WARNING, logger=compilation.__name__):
        compare(case, torch.float32, compiled=True)
        compare(case, torch.float64, compiled=True)
    assert compiler.calls == 1
    assert len(notes(caplog)) == 1


def test_methods_of_one_process_share_compiled_code_safely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their updates have tensors where others have None, which torch's guards cannot compare."""
    compiling = torch.compile
    structures: list[str] = []

    def without_inductor(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        structures.append(function.__name__)
        return compiling(function, backend="eager", fullgraph=True, dynamic=False)

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", without_inductor)
    methods = (QCConfig, MVPConfig, QCConfig, FMQConfig, MVPConfig)
    cases = [Case(method, online=True) for method in methods]
    for case in (*cases, Case(FMQConfig), Case(FMQConfig, online=True)):
        compare(case, torch.float32, compiled=True)
    assert not compilation._failed
    # Imitation on the diagonal, with jumps, guidance; and the mask of padded steps offline.
    assert structures.count("differentiable_losses") == 4
    torch._dynamo.reset()
