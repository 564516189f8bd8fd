"""Digests of parameters: what they tell apart, and what is said of learners that differ."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rllib_fmq.learner import FlowMapLearner
from rllib_fmq.learner.agreement import check_agreement, digest

from .test_host_sync import NoWaiting


def tensors() -> dict[str, Tensor]:
    noise = torch.Generator().manual_seed(0)
    return {
        "a": torch.randn(5, 7, generator=noise),
        "b": torch.randn(33, generator=noise).double(),
        "c": torch.tensor([True, False, True]),
    }


@pytest.mark.parametrize("bit", [0, 22, 31])
@pytest.mark.parametrize("place", [0, 17, 34])
def test_one_bit_changes_one_digest(bit: int, place: int) -> None:
    before = digest(tensors())
    changed = tensors()
    mask = -(2**31) if bit == 31 else 2**bit
    changed["a"].view(-1).view(torch.int32)[place] ^= mask
    assert (digest(changed) != before).tolist() == [True, False, False]


def test_places_count() -> None:
    before, changed = digest(tensors()), tensors()
    changed["a"] = changed["a"].flip(0)
    changed["c"] = torch.tensor([True, True, False])
    assert (digest(changed) != before).tolist() == [True, False, True]


def test_equal_values_have_equal_digests_however_they_lie_in_memory() -> None:
    turned = tensors()
    turned["a"] = turned["a"].T.contiguous().T
    assert torch.equal(digest(turned), digest(tensors()))


def test_differing_learners_are_named() -> None:
    digests = digest(tensors()).repeat(4, 1)
    check_agreement(["a", "b", "c"], digests, 500)
    digests[1, 1] += 1
    digests[3, 2] += 1
    text = r"at update 500: rank 1, 3 differs from rank 0 in 2 of 3 tensors, first in b\."
    with pytest.raises(RuntimeError, match=text):
        check_agreement(["a", "b", "c"], digests, 500)


def test_everything_is_covered_without_waiting(make_learner: Callable[..., FlowMapLearner]) -> None:
    state = make_learner().flow_module.state_dict()
    for part in ("actor.", "critics.", "target_critics.", "reference_actor."):
        assert any(part in name for name in state), part
    with NoWaiting():
        assert digest(state).shape == (len(state),)
