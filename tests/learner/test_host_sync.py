"""Updates never wait for the device: they ask for no number, and copy nothing across devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rllib_fmq import FMQConfig, MVPConfig, QCConfig
from rllib_fmq.learner import FlowMapLearner

Make = Callable[..., FlowMapLearner]

aten = torch.ops.aten
WAITING = (
    aten._local_scalar_dense,  # item(), float(), int()
    aten.is_nonzero,  # bool()
    aten.equal,
    aten.nonzero,  # indexing with a mask
    aten.masked_select,
    aten._unique2,
)


class NoWaiting(TorchDispatchMode):
    """Raises at operators whose result the host must wait for where tensors are on a GPU."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        packet = func.overloadpacket
        if packet in WAITING:
            raise AssertionError(f"{func} makes the host wait")
        out = func(*args, **(kwargs or {}))
        if packet in (aten._to_copy, aten.copy_):
            tensors = [x for x in (*args, out) if isinstance(x, torch.Tensor)]
            if len({x.device for x in tensors}) > 1:
                raise AssertionError(f"{func} copies between devices")
        return out


def updates_without_waiting(learner: FlowMapLearner, count: int) -> None:
    """What ``update`` runs, but for the one reduction of metrics at its end."""
    with NoWaiting():
        for _ in range(count):
            learner._next_update()
            learner.num_updates += 1


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize(
    ("config_class", "training"),
    [
        (FMQConfig, {}),
        (FMQConfig, {"distillation": "psd", "target_selector": "qgbs", "beam_width": 2}),
        (FMQConfig, {"online_diagonal_weight": 0.5, "online_distillation_weight": 0.5}),
        (FMQConfig, {"grad_clip": 0.5, "grad_clip_by": "global_norm"}),
        (MVPConfig, {"conditioning_axis": True, "conditioning_start": 0}),
        (QCConfig, {}),
    ],
    ids=["FMQ", "FMQ-psd-qgbs", "FMQ-auxiliary", "FMQ-clipped", "MVP", "QC"],
)
def test_updates_do_not_wait(
    make_learner: Make, config_class: Any, training: dict[str, Any], online: bool
) -> None:
    learner = make_learner(config_class, **training)
    learner.update(num_updates=4)  # the curriculum has begun, all losses are on
    if online:
        learner.begin_online()
    updates_without_waiting(learner, 5)


def test_the_check_sees_what_it_should(make_learner: Make) -> None:
    # RLlib's own check of gradients asks after each: with it on, this must fail.
    learner = make_learner()
    config = learner.config.copy(copy_frozen=False)
    config.torch_skip_nan_gradients = False
    learner.config = config
    with pytest.raises(AssertionError, match="makes the host wait"):
        updates_without_waiting(learner, 1)


def test_a_call_waits_once(make_learner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner()
    calls: list[torch.Size] = []
    tolist = torch.Tensor.tolist

    def counted(tensor: torch.Tensor) -> Any:
        calls.append(tensor.shape)
        return tolist(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    learner.update(num_updates=6)
    assert len(calls) == 1
