"""Recorded updates against plain ones, with a recorder that needs no GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rllib_fmq import FMQConfig, MVPConfig, QCConfig
from rllib_fmq.learner import FlowMapLearner
from rllib_fmq.learner.capture import WARM_UP, CapturedUpdate, Outputs, Step
from rllib_fmq.nn.objectives import WindowBatch

Make = Callable[..., FlowMapLearner]


class FakeGraphs:
    """Keeps the function; a replay calls it. Outputs are the same tensors each time."""

    def __init__(self) -> None:
        self.ran = self.recorded = self.replayed = 0

    def run(self, step: Step) -> Outputs:
        self.ran += 1
        return step()

    def record(self, step: Step) -> Step:
        self.recorded += 1
        static: Outputs = {}

        def replay() -> Outputs:
            self.replayed += 1
            for name, value in step().items():
                static.setdefault(name, torch.empty_like(value)).copy_(value)
            return static

        return replay


def batch(value: float, num: int = 2) -> WindowBatch:
    return WindowBatch(*(torch.full((num, 1), value) for _ in WindowBatch._fields))


def recording(learner: FlowMapLearner) -> FakeGraphs:
    backend = FakeGraphs()
    learner._captured = CapturedUpdate(backend, learner._run_update)
    return backend


def parameters(learner: FlowMapLearner) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in learner.flow_module.state_dict().items()}


def assert_equal(first: FlowMapLearner, second: FlowMapLearner) -> None:
    ours, theirs = parameters(first), parameters(second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(first.generator.get_state(), second.generator.get_state())


def losses(result: dict[str, Any]) -> dict[str, float]:
    return {name: stats.peek() for name, stats in result["default_policy"].items()}


@pytest.mark.parametrize(
    ("config_class", "training"),
    [
        (FMQConfig, {}),
        (FMQConfig, {"online_distillation_weight": 0.5, "distillation": "lsd"}),
        (MVPConfig, {"conditioning_axis": True, "conditioning_start": 9}),
        (QCConfig, {}),
    ],
    ids=["FMQ", "FMQ-auxiliary", "MVP", "QC"],
)
def test_recorded_updates_equal_plain_ones(
    make_learner: Make, config_class: Any, training: dict[str, Any]
) -> None:
    plain, recorded = make_learner(config_class, **training), make_learner(config_class, **training)
    backend = recording(recorded)
    for online in (False, True):
        for learner in (plain, recorded):
            if online:
                learner.begin_online()
        ours, theirs = losses(recorded.update(num_updates=15)), losses(plain.update(num_updates=15))
        assert ours == pytest.approx(theirs, rel=0, abs=0, nan_ok=True)
        assert_equal(recorded, plain)
    assert backend.replayed > 0


def test_what_is_recorded_anew(make_learner: Make) -> None:
    # Self-distillation starts at 2, its interval is full at 6, the condition starts at 20.
    learner = make_learner(MVPConfig, conditioning_axis=True, conditioning_start=20)
    backend = recording(learner)

    def counts(num_updates: int) -> tuple[int, int, int]:
        before = (backend.ran, backend.recorded, backend.replayed)
        learner.update(num_updates=num_updates)
        after = (backend.ran, backend.recorded, backend.replayed)
        return tuple(b - a for a, b in zip(before, after, strict=True))  # type: ignore[return-value]

    assert counts(3) == (3, 0, 0)  # factors 0, 0 and 0 (the interval is still empty at 2)
    assert counts(3) == (0, 0, 0)  # 3, 4, 5: another factor each time, neither run nor recorded
    assert counts(14) == (WARM_UP, 1, 14 - WARM_UP)
    assert counts(10) == (WARM_UP, 1, 10 - WARM_UP)  # the condition
    assert counts(5) == (0, 0, 5)
    learner.begin_online()
    assert counts(5) == (WARM_UP, 1, 5 - WARM_UP)
    for optimizer in learner._named_optimizers.values():
        learner._set_optimizer_lr(optimizer, 1e-5)
    assert counts(5) == (WARM_UP, 1, 5 - WARM_UP)
    learner.set_state(learner.get_state())  # the optimiser's moments are other tensors now
    assert counts(5) == (WARM_UP, 1, 5 - WARM_UP)


def test_inputs_stay_where_they_are_and_outputs_are_the_recordings() -> None:
    seen: list[tuple[int, float]] = []

    def function(windows: WindowBatch) -> Outputs:
        seen.append((windows.obs.data_ptr(), float(windows.obs[0, 0])))
        return {"loss": windows.obs.sum()}

    update = CapturedUpdate(FakeGraphs(), function, warm_up=1)
    given = [batch(float(k)) for k in range(4)]
    outputs = [update(windows, "key") for windows in given]
    assert [value for _, value in seen] == [0.0, 1.0, 2.0, 3.0]
    assert len({place for place, _ in seen}) == 1
    assert seen[0][0] not in {windows.obs.data_ptr() for windows in given}
    assert outputs[1]["loss"] is outputs[2]["loss"]
    assert float(outputs[3]["loss"]) == 6.0


def test_another_shape_or_key_is_recorded_anew() -> None:
    backend = FakeGraphs()
    update = CapturedUpdate(backend, lambda windows: {"loss": windows.obs.sum()}, warm_up=1)
    for key, num in (("a", 2), ("a", 3), ("b", 3)):
        for _ in range(3):
            assert float(update(batch(1.0, num), key)["loss"]) == num
    assert (backend.ran, backend.recorded, backend.replayed) == (3, 3, 6)
    update.forget()
    update(batch(1.0, 3), "b")
    assert (backend.ran, backend.recorded) == (4, 3)


def test_recording_needs_a_first_update() -> None:
    with pytest.raises(ValueError, match="warm_up=0"):
        CapturedUpdate(FakeGraphs(), lambda windows: {}, warm_up=0)


def test_a_learner_on_a_cpu_records_nothing(make_learner: Make) -> None:
    learner = make_learner()
    assert learner._captured is None
    (optimizer,) = learner._named_optimizers.values()
    state = learner.get_state()
    (saved,) = state["optimizer"].values()
    saved["state"]["param_groups"][0]["capturable"] = True  # as from a run on a GPU
    learner.set_state(state)
    assert optimizer.param_groups[0]["capturable"] is False
    learner.update(num_updates=1)


def test_with_a_gpu_the_optimiser_can_be_recorded(
    make_learner: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlowMapLearner, "_captures", True)
    monkeypatch.setattr("rllib_fmq.learner.flow_map_learner.CudaGraphs", lambda gen: FakeGraphs())
    learner = make_learner()
    assert learner._captured is not None
    (optimizer,) = learner._named_optimizers.values()
    assert optimizer.param_groups[0]["capturable"] is True
