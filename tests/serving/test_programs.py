"""The selectors' programs, before they are traced, against the module that they came from."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rllib_fmq.flow.selection import SELECTORS, SelectorKind, SelectorSettings
from rllib_fmq.nn.network_views import NetworkViews
from rllib_fmq.serving.export import exported_selectors, module_plan
from rllib_fmq.serving.programs import SelectorProgram, noise_shapes
from tests.serving.conftest import HORIZON, OBS_SIZE, make_policy

VARIANTS: list[dict[str, Any]] = [
    {"actor_hidden": (16, 16), "critic_hidden": (16, 16)},
    {"scoring": "mean", "gelu": "none", "num_critics": 3},
    {"conditioning_axis": True, "num_critics": 1},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=["min", "mean", "conditioned"])
@pytest.mark.parametrize("kind", SELECTORS)
@pytest.mark.parametrize("num", [1, 5])
@pytest.mark.parametrize("search_iters", [0, 2])
def test_program_plans_what_the_module_plans(
    kind: SelectorKind, variant: dict[str, Any], num: int, search_iters: int
) -> None:
    module, _ = make_policy(kind, **variant)
    settings = SelectorSettings(
        kind, num_candidates=4, euler_steps=3, beam_width=2, search_iters=search_iters, branches=3
    )
    networks = NetworkViews(module.actor, module.critics, OBS_SIZE)
    program = SelectorProgram(networks, settings, module.scoring, (HORIZON, module.action_dim))
    generator = torch.Generator().manual_seed(1)
    obs = torch.randn(num, OBS_SIZE, generator=generator)
    noise = {
        name: torch.randn((num, *shape), generator=generator)
        for name, shape in noise_shapes(settings, module.action_size).items()
    }
    chunks = program(obs, **noise)
    expected = module_plan(module, settings, obs.numpy(), {k: v.numpy() for k, v in noise.items()})
    assert chunks.shape == (num, HORIZON, module.action_dim)
    torch.testing.assert_close(chunks.flatten(1), expected, atol=2e-6, rtol=0.0)
    assert not any(parameter.requires_grad for parameter in program.parameters())


def test_selectors_that_a_policy_can_use() -> None:
    module, record = make_policy("best_of_n")
    kinds = [s.kind for s in exported_selectors(module.evaluation_selector, record)]
    assert kinds == ["sample", "best_of_n", "qgbs"]
    module, record = make_policy("euler")
    (only,) = exported_selectors(module.evaluation_selector, record)
    assert only == module.evaluation_selector and only.kind == "euler"


def test_the_one_step_program_holds_no_critic() -> None:
    module, _ = make_policy("best_of_n")
    networks = NetworkViews(module.actor, module.critics, OBS_SIZE)
    program = SelectorProgram(networks, SelectorSettings("sample"), "min", (HORIZON, 2))
    assert len(program.critics) == 0
