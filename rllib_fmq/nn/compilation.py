"""Compiling pure functions with ``torch.compile``; where that fails, the plain ones serve."""

from __future__ import annotations

import functools
import logging
import types
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

_OPTIONS: dict[str, Any] = {"cpp.enable_floating_point_contract_flag": "fast"}
"""Fused multiply-adds in CPU kernels: activations are long polynomials."""

MOST_VARIANTS = 64
"""Of one function; torch's own limit is 8."""

_failed = False


def maybe_compiled(function: Callable[P, T], compiled: bool) -> Callable[P, T]:
    """``function`` itself, or its compiled form.

    Compiled code is kept for the process, and by torch on disk (``TORCHINDUCTOR_CACHE_DIR``).
    Where compiling fails, a note says so once, and all functions run uncompiled from then on.

    Args:
        function: Of the module level, without side effects.
        compiled: Which of both.
    Source: ours.
    """
    return _compiled(function) if compiled else function


@functools.cache
def _compile_errors() -> tuple[type[Exception], ...]:
    errors = torch._dynamo.exc
    # Of its own kind: one variant more than a function may have.
    too_many = getattr(errors, "FailOnRecompileLimitHit", errors.TorchDynamoException)
    return errors.TorchDynamoException, too_many


def _structure(value: Any) -> Any:
    """Which parts of arguments are None: compiled code of one structure never serves another."""
    if isinstance(value, tuple):
        return tuple(_structure(part) for part in value)
    return value is None


@functools.cache
def _compiled(function: Callable[P, T]) -> Callable[P, T]:
    config = torch._dynamo.config
    # Each phase, batch size and selector is a variant; several runs may share a process.
    config.recompile_limit = max(config.recompile_limit, MOST_VARIANTS)

    @functools.cache
    def fast(structure: Any) -> Callable[P, T]:
        # Torch keeps variants by code object, and fails when it compares arguments with the
        # guards of a variant that had tensors where these have None. Hence a copy for each.
        code = function.__code__.replace()
        copy = types.FunctionType(
            code, function.__globals__, function.__name__, function.__defaults__
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        compiled: Callable[P, T] = torch.compile(
            copy, fullgraph=True, dynamic=False, options=_OPTIONS
        )
        return compiled

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        global _failed
        if _failed:
            return function(*args, **kwargs)
        try:
            return fast(_structure((args, *kwargs.values())))(*args, **kwargs)
        except _compile_errors() as error:
            _failed = True
            _explain(error)
            return function(*args, **kwargs)

    return run


def _explain(error: Exception) -> None:
    reason: Any = str(error).strip().splitlines() or [type(error).__name__]
    logger.warning(
        "torch.compile failed, so updates run uncompiled, which is slower but gives the same "
        "results: %s. A C++ compiler (g++ or clang) is needed on CPUs, Triton on GPUs; "
        "compile_updates=False silences this.",
        reason[0],
    )
