"""Optimised and straightforward updates agree; this is what allows each optimisation."""

from __future__ import annotations

import itertools

import pytest
import torch

from benchmarks.speed.problem import Sizes
from rllib_fmq import FMQConfig, MVPConfig, QCConfig, QGBSConfig
from rllib_fmq.nn.candidate_blocks import Blocks
from tests.nn.straightforward import Case, compare, compiled_formulas

QGBS = {"kind": "qgbs", "beam_width": 3, "search_iters": 2, "branches": 2}
AUXILIARY = {"online_diagonal_weight": 0.5, "online_distillation_weight": 0.3}
LOSSES = list(itertools.product(("esd", "lsd", "psd"), ("jump", "composition")))

CASES = {
    "FMQ offline": Case(FMQConfig),
    "FMQ online": Case(FMQConfig, online=True),
    "QGBS offline": Case(QGBSConfig),
    "QGBS online": Case(QGBSConfig, online=True),
    "MVP offline": Case(MVPConfig),
    "MVP online": Case(MVPConfig, online=True),
    "QC offline": Case(QCConfig),
    "QC online": Case(QCConfig, online=True),
    "warm-up": Case(FMQConfig, interval_factor=0.0),
    "whole interval": Case(FMQConfig, interval_factor=1.0),
    "first critic, radius as printed": Case(FMQConfig, {"radius_numerator": "one"}, online=True),
    "mean of the critics guides": Case(FMQConfig, {"guidance_critic": "mean"}, online=True),
    "three critics": Case(FMQConfig, {"num_critics": 3, "guidance_critic": "mean"}, online=True),
    "one critic": Case(FMQConfig, {"num_critics": 1}, online=True),
    "target by min of min": Case(FMQConfig, {"target_scoring": "min"}),
    "target by mean of mean": Case(FMQConfig, {"target_aggregation": "mean"}),
    "exact GELU offline": Case(FMQConfig, {"gelu": "none"}),
    "exact GELU online": Case(FMQConfig, {"gelu": "none"}, online=True),
    "diagonal beside guidance": Case(FMQConfig, {"online_diagonal_weight": 0.5}, online=True),
    "distillation beside guidance": Case(
        FMQConfig, {"online_distillation_weight": 0.5}, online=True
    ),
}
CASES |= {
    f"FMQ {loss} {student}": Case(
        FMQConfig, {"distillation": loss, "distillation_student": student}
    )
    for loss, student in LOSSES
}
CASES |= {
    f"FMQ online beside {loss} {student}": Case(
        FMQConfig,
        AUXILIARY | {"distillation": loss, "distillation_student": student},
        online=True,
    )
    for loss, student in LOSSES
}
CASES |= {
    f"MVP {phase} conditioned": Case(
        MVPConfig, {"conditioning_axis": True}, online=phase == "online", condition=True
    )
    for phase in ("offline", "online")
}
CASES |= {
    "MVP before conditioning starts": Case(MVPConfig, {"conditioning_axis": True}),
    "MVP always conditioned": Case(
        MVPConfig, {"conditioning_axis": True, "conditioning_zero_prob": 0.0}, condition=True
    ),
    "MVP scored by the mean": Case(MVPConfig, {"scoring": "mean"}, online=True),
}
CASES |= {
    f"target by {name}, {'online' if online else 'offline'}": Case(
        FMQConfig, {"target_selector": selector}, online=online
    )
    for name, selector in {
        "sample": "sample",
        "best of 1": {"kind": "best_of_n", "num_candidates": 1},
        "qgbs": QGBS,
        "qgbs without search": QGBS | {"search_iters": 0},
        "qgbs without a step": QGBS | {"eta": 0.0},
        "qgbs by Euler's step": QGBS | {"completion": "euler"},
        "euler": {"kind": "euler", "num_candidates": 1},
        "euler best of 4": "euler",
    }.items()
    for online in (False, True)
}

NOT_COMPILED = {"distillation beside guidance"} | {name for name in CASES if " lsd " in name}
"""Their losses have a gradient through ``torch.func.jvp`` that torch cannot compile."""


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_updates_agree(name: str, dtype: torch.dtype) -> None:
    compare(CASES[name], dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_updates_agree_in_the_form_that_is_compiled(name: str, dtype: torch.dtype) -> None:
    """The other branch of everything that asks whether it is being compiled, uncompiled."""
    with compiled_formulas() as ran:
        compare(CASES[name], dtype, compiled=True)
    assert ("differentiable_losses" in ran) == (name not in NOT_COMPILED)


WIDE = Sizes(obs_dim=7, action_dim=3, horizon=5, batch_size=64, hidden=(64, 64, 64, 64))
"""With 32 candidates these are many rows: they go through the networks in blocks."""
MANY = {
    "FMQ offline": Case(FMQConfig, {"num_candidates": 32}, sizes=WIDE),
    "FMQ online": Case(FMQConfig, {"num_candidates": 32}, online=True, sizes=WIDE),
    "FMQ scored by min": Case(
        FMQConfig, {"num_candidates": 40, "target_scoring": "min"}, sizes=WIDE
    ),
    "exact GELU": Case(FMQConfig, {"num_candidates": 32, "gelu": "none"}, sizes=WIDE),
    "MVP online": Case(MVPConfig, {"num_candidates": 32}, online=True, sizes=WIDE),
    "MVP conditioned": Case(
        MVPConfig,
        {"num_candidates": 32, "conditioning_axis": True},
        online=True,
        condition=True,
        sizes=WIDE,
    ),
    "QC": Case(QCConfig, {"num_candidates": 32}, sizes=WIDE),
}


@pytest.mark.parametrize("formulas", ["eager", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", MANY)
def test_updates_agree_with_many_candidates(
    name: str, dtype: torch.dtype, formulas: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = []
    for method in ("velocity", "values"):
        plain_method = getattr(Blocks, method)
        monkeypatch.setattr(
            Blocks,
            method,
            lambda self, *args, _plain=plain_method: (blocks.append(1), _plain(self, *args))[1],
        )
    if formulas == "compiled":
        with compiled_formulas():
            compare(MANY[name], dtype, compiled=True)
    else:
        compare(MANY[name], dtype)
    # In double precision and uncompiled there is nothing to be gained from blocks.
    assert bool(blocks) == (dtype == torch.float32 or formulas == "compiled")
