"""The leaner update against RLlib's own: same results, same hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from rllib_fmq.learner import FlowMapLearner
from rllib_fmq.learner.lean_torch_learner import LeanTorchLearner
from rllib_fmq.learner.metric_sums import MetricSums

Make = Callable[..., FlowMapLearner]
OVERRIDDEN = ("compute_gradients", "postprocess_gradients", "_compute_off_policyness")


def parameters(learner: FlowMapLearner) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in learner.flow_module.state_dict().items()}


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"grad_clip": 0.05, "grad_clip_by": "global_norm"},
        {"grad_clip": 0.01, "grad_clip_by": "norm"},
        {"grad_clip": 0.001, "grad_clip_by": "value"},
    ],
    ids=["plain", "global_norm", "norm", "value"],
)
def test_updates_equal_rllibs(
    make_learner: Make, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any]
) -> None:
    lean = make_learner(**training)
    lean.update(num_updates=6)
    unclipped = make_learner()
    unclipped.update(num_updates=6)
    for name in OVERRIDDEN:
        monkeypatch.setattr(LeanTorchLearner, name, getattr(TorchLearner, name))
    rllibs = make_learner(**training)
    rllibs.update(num_updates=6)
    assert_equal(parameters(lean), parameters(rllibs))
    same = all(
        torch.equal(a, b)
        for a, b in zip(parameters(lean).values(), parameters(unclipped).values(), strict=True)
    )
    assert same == (not training), "clipping had no effect"


class Doubled(FlowMapLearner):
    """A user's learner: another loss, and gradients that are looked at and changed."""

    seen = 0

    def compute_loss_for_module(self, **kwargs: Any) -> Tensor:
        return 2.0 * super().compute_loss_for_module(**kwargs)

    def postprocess_gradients_for_module(
        self, *, module_gradients_dict: dict[Tensor, Tensor], **kwargs: Any
    ) -> Any:
        type(self).seen += len(module_gradients_dict)
        halved = {param: grad / 2.0 for param, grad in module_gradients_dict.items()}
        return super().postprocess_gradients_for_module(module_gradients_dict=halved, **kwargs)


def test_hooks_of_users_are_called(make_learner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_learner()
    plain.update(num_updates=3)
    with monkeypatch.context() as patch:
        patch.setattr("rllib_fmq.algorithms.config.FlowMapLearner", Doubled)
        changed = make_learner()
    assert isinstance(changed, Doubled)
    changed.update(num_updates=3)
    assert Doubled.seen >= 3 * len(list(plain.flow_module.critics.parameters()))
    assert_equal(parameters(plain), parameters(changed))  # times 2, then half: exact


def test_means_are_over_the_updates_that_had_the_term() -> None:
    sums = MetricSums()
    assert sums.means() == {}
    sums.add({"a": torch.tensor(1.0), "b": torch.tensor(10.0)})
    sums.add({"a": torch.tensor(2.0, requires_grad=True)})
    sums.add({"b": torch.tensor(30.0), "a": torch.tensor(6.0)})
    assert sums.means() == {"a": 3.0, "b": 20.0}
    assert not any(value.requires_grad for value in sums._sums.values())
