"""Two and four learners on gloo against one process on the joined batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import ray
import torch
from pyarrow.fs import LocalFileSystem
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from torch import Tensor

from rllib_fmq import FMQConfig, MVPConfig, QCConfig
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.checkpointing.replay_store import ReplayStore
from rllib_fmq.learner import FlowMapLearner
from rllib_fmq.nn.flow_map_module import CONTEXT, METRICS, WINDOWS
from rllib_fmq.nn.objectives import UpdateContext, WindowBatch

from .conftest import HORIZON, OBS_DIM, SPACES

BATCH, SIZE = 8, HORIZON * 2
SEEDS = (101, 202, 303, 404)
SCALES = (0.1, 10.0, 1.0, 3.0)
"""Of the observations of each rank."""

# Starting two learner processes takes half a minute on a busy machine.
pytestmark = pytest.mark.slow


class Outcome(NamedTuple):
    """What one gradient step left behind."""

    gradients: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    metrics: dict[str, float]


class Case(NamedTuple):
    """An update to compare: the losses of one method in one phase."""

    config_class: type[FlowMapConfig]
    online: bool
    condition: bool = False
    training: Mapping[str, Any] = MappingProxyType({})


CASES = {
    "FMQ-offline": Case(FMQConfig, online=False),
    "FMQ-offline-PSD": Case(FMQConfig, online=False, training={"distillation": "psd"}),
    "FMQ-online": Case(FMQConfig, online=True, training={"beta": 1.0}),
    "MVP-online": Case(MVPConfig, online=True, condition=True),
    "QC-online": Case(QCConfig, online=True),
}


def rank_windows(rank: int) -> WindowBatch:
    """Windows of one rank; observations of rank 1 are a hundred times those of rank 0."""
    noise = torch.Generator().manual_seed(rank)
    scale = SCALES[rank]
    valid = (torch.rand(BATCH, HORIZON, generator=noise) < 0.8).float()
    valid[:, 0] = 1.0
    valid = valid.cumprod(dim=1)
    mask = valid.repeat_interleave(2, dim=1)
    return WindowBatch(
        obs=scale * torch.randn(BATCH, OBS_DIM, generator=noise),
        actions=(2.0 * torch.rand(BATCH, SIZE, generator=noise) - 1.0) * mask,
        valid=mask,
        rewards=torch.randn(BATCH, HORIZON, generator=noise) * valid,
        terminated=torch.zeros(BATCH, HORIZON, dtype=torch.bool),
        next_obs=scale * torch.randn(BATCH, OBS_DIM, generator=noise),
        complete=valid[:, -1],
    )


def joined_windows(num_ranks: int) -> WindowBatch:
    columns = zip(*map(rank_windows, range(num_ranks)), strict=True)
    return WindowBatch(*(torch.cat(parts) for parts in columns))


def joined_step(
    learner: FlowMapLearner,
    context: UpdateContext,
    monkeypatch: pytest.MonkeyPatch,
    num_ranks: int = 2,
) -> Outcome:
    """The same step by one process on the windows and the noise of all ranks."""
    windows = joined_windows(num_ranks)
    with joined_noise(monkeypatch, num_ranks):
        return step(learner, windows, context)


@contextmanager
def joined_noise(monkeypatch: pytest.MonkeyPatch, num_ranks: int) -> Iterator[None]:
    """Makes torch's draws of n rows first n / num_ranks rows of rank 0, then those of 1, ..."""
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS[:num_ranks]]

    def join(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def drawn(*shape: Any, generator: Any = None, **kwargs: Any) -> Tensor:
            rows, *rest = shape[0] if len(shape) == 1 else shape
            own = rows // num_ranks
            return torch.cat([draw(own, *rest, generator=g, **kwargs) for g in generators])

        return drawn

    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", join(torch.rand))
        patch.setattr(torch, "randn", join(torch.randn))
        yield


def step(learner: FlowMapLearner, windows: WindowBatch, context: UpdateContext) -> Outcome:
    """One gradient step on given windows."""
    # Actor and reference differ, as they do after some online updates.
    learner.flow_module.copy_to_reference()
    with torch.no_grad():
        for parameter in learner.flow_module.reference_actor.parameters():
            parameter.mul_(0.9)
    out, _, _ = learner._update({DEFAULT_MODULE_ID: {WINDOWS: windows, CONTEXT: context}})
    named = list(learner.flow_module.named_parameters())
    return Outcome(
        {n: p.grad.numpy().copy() for n, p in named if p.grad is not None},
        {n: p.detach().numpy().copy() for n, p in named},
        {n: float(value) for n, value in out[DEFAULT_MODULE_ID][METRICS].items()},
    )


def context_of(case: Case, config: FlowMapConfig) -> UpdateContext:
    return UpdateContext(
        settings=config.loss_settings(),
        online=case.online,
        interval_factor=0.7,
        condition=case.condition,
        generator=None,
        global_mean=lambda value: value,
    )


@pytest.fixture(scope="module")
def group(ray_session: None, make_config: Callable[..., FlowMapConfig]) -> Iterator[LearnerGroup]:
    """Two learners whose networks serve all cases."""
    learners = start_learners(make_config, 2)
    yield learners
    learners.shutdown()


def start_learners(make_config: Callable[..., FlowMapConfig], number: int) -> LearnerGroup:
    config = make_config(
        MVPConfig, conditioning_axis=True, num_learners=number, parameter_check_interval=3
    ).learners(num_cpus_per_learner=0.5)
    return config.build_learner_group(
        rl_module_spec=config.get_multi_rl_module_spec(spaces={DEFAULT_MODULE_ID: SPACES})
    )


@pytest.fixture(scope="module")
def initial(group: LearnerGroup) -> Any:
    """State of the untrained learners."""
    return ray.put(group.get_state()["learner"])


def distributed(
    group: LearnerGroup, initial: Any, context: UpdateContext, local_means: bool = False
) -> list[Outcome]:
    """The same step on all learners, each with its own windows and noise."""

    def update(learner: FlowMapLearner) -> Outcome:
        rank = torch.distributed.get_rank()
        learner.set_state(ray.get(initial))
        own = context.__dict__ | {"generator": torch.Generator().manual_seed(SEEDS[rank])}
        if not local_means:
            own["global_mean"] = learner._global_mean
        return step(learner, rank_windows(rank), UpdateContext(**own))

    return [result.get() for result in group.foreach_learner(update)]


def difference(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    """Largest difference of a number, relative to the parameter's largest where that is > 1."""
    assert first.keys() == second.keys()
    return max(
        float(np.abs(first[n] - second[n]).max() / max(1.0, np.abs(second[n]).max())) for n in first
    )


@pytest.mark.parametrize("name", CASES)
def test_two_learners_give_the_gradients_of_the_joined_batch(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    group: LearnerGroup,
    initial: Any,
    make_config: Callable[..., FlowMapConfig],
    make_learner: Callable[..., FlowMapLearner],
) -> None:
    case = CASES[name]
    context = context_of(case, make_config(case.config_class, **case.training))
    first, second = distributed(group, initial, context)
    learner = make_learner(MVPConfig, conditioning_axis=True)
    joined = joined_step(learner, context, monkeypatch)

    assert difference(first.parameters, second.parameters) == 0.0
    assert difference(first.gradients, second.gradients) == 0.0
    assert difference(first.gradients, joined.gradients) < 1e-5
    # Both halves of the networks have gradients to compare.
    for part in ("actor", "critics"):
        assert any(np.abs(g).max() > 1e-2 for n, g in joined.gradients.items() if part in n)


def test_four_learners_give_the_gradients_of_the_joined_batch(
    monkeypatch: pytest.MonkeyPatch,
    ray_session: None,
    initial: Any,
    make_config: Callable[..., FlowMapConfig],
    make_learner: Callable[..., FlowMapLearner],
) -> None:
    case = CASES["FMQ-online"]  # with the mean over all of Eq. 13
    context = context_of(case, make_config(case.config_class, **case.training))
    four = start_learners(make_config, 4)
    try:
        outcomes = distributed(four, initial, context)
    finally:
        four.shutdown()
    learner = make_learner(MVPConfig, conditioning_axis=True)
    joined = joined_step(learner, context, monkeypatch, num_ranks=4)
    assert len(outcomes) == 4
    for outcome in outcomes:
        assert difference(outcome.parameters, outcomes[0].parameters) == 0.0
        assert difference(outcome.gradients, joined.gradients) < 1e-5


def test_learners_that_diverged_are_found(group: LearnerGroup, initial: Any) -> None:
    def update(learner: FlowMapLearner, disturbed: bool) -> str:
        learner.set_state(ray.get(initial))
        if disturbed and torch.distributed.get_rank() == 1:
            target = learner.flow_module.target_critics
            with torch.no_grad():
                next(target.parameters()).view(-1)[0] += 1e-3
        learner.update(num_updates=2)  # not due yet
        try:  # RLlib takes a learner that raised for lost
            learner.update(num_updates=1)
        except RuntimeError as error:
            return str(error)
        return ""

    equal, diverged = (
        [result.get() for result in group.foreach_learner(partial(update, disturbed=disturbed))]
        for disturbed in (False, True)
    )
    assert equal == ["", ""]
    for message in diverged:
        assert "at update 3: rank 1 differs from rank 0 in" in message


def test_the_radius_depends_on_the_global_mean(
    monkeypatch: pytest.MonkeyPatch,
    group: LearnerGroup,
    initial: Any,
    make_config: Callable[..., FlowMapConfig],
    make_learner: Callable[..., FlowMapLearner],
) -> None:
    # The comparison above would not notice local means in Eq. 13, were they alike on both.
    case = CASES["FMQ-online"]
    context = context_of(case, make_config(case.config_class, **case.training))
    outcomes = distributed(group, initial, context, local_means=True)
    means = [outcome.metrics["disagreement"] for outcome in outcomes]
    assert max(means) > 1.5 * min(means)
    learner = make_learner(MVPConfig, conditioning_axis=True)
    joined = joined_step(learner, context, monkeypatch)
    assert difference(outcomes[0].gradients, joined.gradients) > 1e-3


def episodes(count: int) -> list[SingleAgentEpisode]:
    rng = np.random.default_rng(0)
    return [
        SingleAgentEpisode(
            observations=list(rng.standard_normal((6, OBS_DIM)).astype(np.float32)),
            actions=list(rng.uniform(-1.0, 1.0, (5, 2)).astype(np.float32)),
            rewards=list(rng.standard_normal(5)),
            terminated=True,
            observation_space=SPACES[0],
            action_space=SPACES[1],
            len_lookback_buffer=0,
        ).to_numpy()
        for _ in range(count)
    ]


def test_learners_sample_differently_and_stay_equal(group: LearnerGroup, initial: Any) -> None:
    def begin(learner: FlowMapLearner) -> dict[str, Any]:
        learner.set_state(ray.get(initial))
        own = torch.Generator()
        own.set_state(learner.generator.get_state())
        return {
            "drawn": learner.replay.sample(50, HORIZON, own).obs.numpy(),
            "noise": torch.randn(50, generator=own).numpy(),
        }

    first, second = (result.get() for result in group.foreach_learner(begin))
    assert not np.array_equal(first["drawn"], second["drawn"])
    assert not np.array_equal(first["noise"], second["noise"])

    group.update(episodes_refs=[], num_updates=3)
    for result in group.foreach_learner(lambda learner: learner.begin_online()):
        result.get()
    results = group.update(episodes_refs=[], num_updates=3, fragments=[ray.put(episodes(4))])
    assert len(results) == 2

    def look(learner: FlowMapLearner) -> tuple[dict[str, np.ndarray], int, int]:
        named = learner.flow_module.state_dict().items()
        return {n: v.numpy() for n, v in named}, learner.num_updates, learner.replay.num_online

    (weights, *counts), (others, *other_counts) = (r.get() for r in group.foreach_learner(look))
    assert difference(weights, others) == 0.0
    assert counts == other_counts == [6, 20]


def test_one_learners_state_continues_on_two(
    group: LearnerGroup, make_learner: Callable[..., FlowMapLearner], tmp_path: Path
) -> None:
    learner = make_learner(MVPConfig, conditioning_axis=True)
    learner.update(num_updates=4)
    learner.begin_online()
    learner.update(num_updates=1, fragments=[episodes(2)])
    # As files of another run would be read: RLlib ignores weights that are not newer.
    state = ray.put(learner.get_state() | {"weights_seq_no": 0})
    store = ReplayStore(LocalFileSystem(), str(tmp_path / "replay"))
    index = learner.save_replay(store, None)

    def take(target: FlowMapLearner) -> tuple[dict[str, np.ndarray], int, bool, int]:
        target.set_state(ray.get(state))
        target.load_replay(store, index)
        named = target.flow_module.state_dict().items()
        weights = {n: v.numpy().copy() for n, v in named}
        return weights, target.num_updates, target.online, target.replay.num_online

    expected = {n: v.numpy() for n, v in learner.flow_module.state_dict().items()}
    for result in group.foreach_learner(take):
        weights, *rest = result.get()
        assert difference(weights, expected) == 0.0
        assert rest == [5, True, 10]
