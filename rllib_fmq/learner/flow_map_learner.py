"""The Learner: samples from its own replay and runs many updates a call."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import Tensor

from rllib_fmq import flow
from rllib_fmq.learner.agreement import check_agreement, gather_digests
from rllib_fmq.learner.capture import CapturedUpdate, CudaGraphs
from rllib_fmq.learner.compiling import COMPILING, will_compile
from rllib_fmq.learner.initial_checkpoint import InitialState
from rllib_fmq.learner.memory import keep_freed_memory
from rllib_fmq.learner.metric_sums import MetricSums
from rllib_fmq.learner.replay_learner import ReplayLearner
from rllib_fmq.learner.threads import choose_threads
from rllib_fmq.nn.flow_map_module import CONTEXT, LOSSES, METRICS, WINDOWS, FlowMapModule
from rllib_fmq.nn.objectives import LossSettings, UpdateContext, WindowBatch

LEARNER_STATE = "flow_map_learner"
RANK_STRIDE = 1_000_003
"""Between the seeds of two learners; RLlib itself gives all of them the same."""
UPDATE_STRIDE = 1_000_000_007
"""Between the seeds of a run resumed at two successive updates."""

logger = logging.getLogger(__name__)


class StateError(NamedTuple):
    """Why a learner could not save or restore its state."""

    message: str
    number: int | None
    """``errno`` of an error of the operating system."""


def _state_error(error: Exception) -> StateError:
    return StateError(str(error) or repr(error), getattr(error, "errno", None))


class FlowMapLearner(ReplayLearner):
    """Trains actor and critics on windows from its replay.

    Offline no data crosses a process: each learner reads the dataset itself, from its name
    or path in the config. Online the fragments come with the call to ``update``, once, to
    every learner. Actor and critics share one backward; the target critics follow after
    every gradient step.
    """

    def build(self) -> None:
        """Build module and optimiser, load the dataset, seed the noise by rank."""
        super().build()
        config = self.config
        self.settings: LossSettings = config.loss_settings()
        self.num_updates = 0
        self.online = False
        self._said_compiling = False
        self.save_error: StateError | None = None
        self.restore_error: StateError | None = None
        """What went wrong in the last ``save_to_path`` and ``restore_from_path``, if anything."""
        self.jumps_trained = config.lambda_sd > 0
        """Whether self-distillation ever trained u_{r,t} off the diagonal."""
        self.compiled = will_compile(config, self._device.type)
        """Whether updates run as compiled code."""
        self.generator = torch.Generator(self._device)
        self._seed_generator()
        on_cpu = self._device.type == "cpu"
        threads = choose_threads(config)
        if on_cpu and threads is not None:
            torch.set_num_threads(threads)
        self._captured: CapturedUpdate | None = None
        if self._captures:
            self._captured = CapturedUpdate(CudaGraphs(self.generator), self._run_update)
        self._load_replay()
        if on_cpu:  # after the dataset: what is large and stays should be mapped
            keep_freed_memory()

    @property
    def flow_module(self) -> FlowMapModule:
        """The module without DDP's wrapper."""
        module: FlowMapModule = self.module[DEFAULT_MODULE_ID].unwrapped()
        return module

    @property
    def _captures(self) -> bool:
        return bool(self.config.cuda_graphs) and self._device.type == "cuda"

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam over actor and critics."""
        module = self._module[module_id]
        params = [p for p in self.get_parameters(module) if p.requires_grad]
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(params, fused=True, capturable=self._captures),
            params=params,
            lr_or_lr_schedule=config.lr,
        )

    def _seed_generator(self, num_updates: int = 0) -> None:
        """One stream for each (seed, rank, updates done); without a seed, fresh entropy."""
        seed = self.config.seed
        base = int.from_bytes(os.urandom(6), "little") if seed is None else seed
        rank = torch.distributed.get_rank() if self.distributed else 0
        self.generator.manual_seed(base + RANK_STRIDE * (rank + 1) + UPDATE_STRIDE * num_updates)

    def begin_online(self) -> None:
        """Freeze the actor as reference and switch the objective."""
        if self.online:
            return
        self.flow_module.copy_to_reference()
        if self.config.reset_optimizer_online:
            for optimizer in self._named_optimizers.values():
                optimizer.state.clear()
        self.online = True
        self._forget_captured()

    def start_from(self, initial: InitialState) -> None:
        """Take over another run's networks, optimiser moments and update count.

        Args:
            initial: From ``read_initial_state``.
        Raises:
            ValueError: If the networks have other sizes, or the policy cannot jump.
        """
        initial.check_fits(self.settings.online_objective)
        try:
            self.flow_module.set_state(initial.module)
        except RuntimeError as error:
            raise ValueError(
                "initial_checkpoint has networks of other sizes than this run: use its "
                f"actor_hidden, critic_hidden and horizon_length. ({error})"
            ) from error
        self._set_optimizer_state(initial.optimizer)
        for optimizer, schedule in self._optimizer_lr_schedules.items():
            self._set_optimizer_lr(optimizer, schedule.get_current_value())  # not the other run's
        self.num_updates = initial.num_updates
        self.jumps_trained = initial.jumps_trained

    def update(
        self,
        *args: Any,
        timesteps: dict[str, Any] | None = None,
        num_updates: int = 0,
        fragments: Sequence[Any] = (),
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Store new fragments, then run ``num_updates`` gradient updates on own samples.

        Args:
            *args: Training data of RLlib's own call; not used.
            timesteps: Passed to RLlib's schedules.
            num_updates: Gradient updates to run.
            fragments: Lists of ``SingleAgentEpisode``, or references to such lists.
            **kwargs: Ignored.
        Returns:
            Reduced metrics: means over those updates of this call that had the term.
        Raises:
            FloatingPointError: If the loss was not finite.
            RuntimeError: If learners have different parameters.
        """
        self.before_gradient_based_update(timesteps=timesteps or {})
        for item in fragments:
            self.store(ray.get(item) if isinstance(item, ray.ObjectRef) else item)
        if num_updates and self.compiled and not self._said_compiling:
            self._said_compiling = True
            logger.info(COMPILING)
        sums, num_before = MetricSums(), self.num_updates
        for _ in range(num_updates):
            sums.add(self._next_update())
            self.num_updates += 1
        # Without this, env-runners take the weights for the ones they have.
        self._weights_seq_no += 1
        digests = self._gather_digests(num_before)  # first: one learner's error may end the call
        if num_updates:
            self._log_means(sums.means())
        if digests is not None:
            check_agreement(list(self.flow_module.state_dict()), digests, self.num_updates)
        self.after_gradient_based_update(timesteps=timesteps or {})
        reduced: dict[str, Any] = self.metrics.reduce()
        return reduced

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> Tensor:
        """Sum of the loss terms that ``forward_train`` computed."""
        first, *others = fwd_out[LOSSES].values()
        total: Tensor = sum(others, start=first)
        return total

    def _next_update(self) -> dict[str, Tensor]:
        windows = self.replay.sample(
            self.config.train_batch_size_per_learner, self.config.horizon_length, self.generator
        )
        self._context = self._next_context()
        constants = self._constants(self._context)
        if self._captured is None or constants is None:
            return self._run_update(windows)
        return self._captured(windows, constants)

    def _run_update(self, windows: WindowBatch) -> dict[str, Tensor]:
        """One update with ``_context``; of the host, nothing but that may decide what is done."""
        batch = {DEFAULT_MODULE_ID: {WINDOWS: windows, CONTEXT: self._context}}
        fwd_out, _, _ = self._update(batch)
        self.flow_module.update_target_critics(self.config.tau)
        out = fwd_out[DEFAULT_MODULE_ID]
        values: dict[str, Tensor] = out[LOSSES] | out[METRICS]
        return values

    def _next_context(self) -> UpdateContext:
        config = self.config
        return UpdateContext(
            settings=self.settings,
            online=self.online,
            interval_factor=self._interval_factor(),
            condition=config.conditioning_axis and self.num_updates >= config.conditioning_start,
            generator=self.generator,
            global_mean=self._global_mean,
            compiled=self.compiled,
        )

    def _interval_factor(self) -> float:
        return flow.interval_factor(
            self.num_updates, self.config.diagonal_warmup_updates, self.config.interval_anneal_end
        )

    def _constants(self, context: UpdateContext) -> tuple[Any, ...] | None:
        """What a recorded update takes as given; None while that changes with every update."""
        s, factor = context.settings, context.interval_factor
        guided = context.online and s.online_objective == "q_guidance"
        if (s.online_distillation_weight if guided else s.lambda_sd) == 0.0:
            factor = 0.0
        if 0.0 < factor < 1.0:
            return None
        rates = [group["lr"] for o in self._named_optimizers.values() for group in o.param_groups]
        return (context.online, context.condition, factor, *rates)

    def _forget_captured(self) -> None:
        if self._captured is not None:
            self._captured.forget()

    def _set_optimizer_state(self, state: dict[str, Any]) -> None:
        super()._set_optimizer_state(state)
        for optimizer in self._named_optimizers.values():
            for group in optimizer.param_groups:  # the checkpoint's, of another device perhaps
                group["capturable"] = self._captures
        self._forget_captured()

    def _global_mean(self, value: Tensor) -> Tensor:
        if not self.distributed:
            return value
        value = value.detach().clone()
        torch.distributed.all_reduce(value)
        return value / torch.distributed.get_world_size()

    def _gather_digests(self, num_before: int) -> Tensor | None:
        """All learners' parameters, where this call passed a multiple of the check's interval."""
        interval = self.config.parameter_check_interval
        due = interval and self.num_updates // interval > num_before // interval
        return gather_digests(self.flow_module.state_dict()) if self.distributed and due else None

    def _log_means(self, means: dict[str, float]) -> None:
        largest = math.inf if self.config.max_loss is None else self.config.max_loss
        for name, value in means.items():
            bad = "is not finite" if not math.isfinite(value) else ""
            if name.endswith("_loss") and value > largest:
                bad = f"is {value:.3g}, beyond max_loss={largest:g},"
            if bad:
                raise FloatingPointError(
                    f"{name} {bad} at update {self.num_updates}: training diverged. Lower lr, or "
                    "look for extreme rewards or observations in the data (rllib data info FILE)."
                )
        means["interval_factor"] = self._interval_factor()
        self.metrics.log_dict(means, key=DEFAULT_MODULE_ID, window=1)
        # The newest, not the mean over an iteration's calls.
        self.metrics.log_value(
            (DEFAULT_MODULE_ID, "replay_size"), len(self.replay), reduce="max", window=1
        )

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state, counters and the noise generator; not the replay (``save_replay``)."""
        state: dict[str, Any] = super().get_state(
            components, not_components=not_components, **kwargs
        )
        if self._check_component(LEARNER_STATE, components, not_components):
            state[LEARNER_STATE] = {
                "num_updates": self.num_updates,
                "online": self.online,
                "jumps_trained": self.jumps_trained,
                "generator": self.generator_state(),
                "dataset_fingerprint": self.dataset_fingerprint,
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what ``get_state`` gave, and the replay of a checkpoint of version 1.

        Raises:
            ValueError: If this run's dataset is not the one of the checkpoint.
        """
        super().set_state(state)
        own = state.get(LEARNER_STATE)
        if own is None:
            return
        self.check_dataset(own["dataset_fingerprint"])
        self.num_updates = own["num_updates"]
        self.online = own["online"]
        self.jumps_trained = own["jumps_trained"]
        if self.distributed:
            # The checkpoint holds the first learner's generator: all start a new stream.
            self._seed_generator(self.num_updates)
        else:
            self.set_generator_state(own["generator"])
        if "replay" in own:
            self._load_version_1_replay(own["replay"])

    def check_dataset(self, fingerprint: str) -> None:
        """Refuse a checkpoint of another dataset.

        Args:
            fingerprint: Of the dataset that the checkpoint was trained on.
        Raises:
            ValueError: If this run's is another.
        """
        if fingerprint != self.dataset_fingerprint:
            raise ValueError(
                f"the checkpoint was trained on another dataset (fingerprint {fingerprint[:12]}, "
                f"here {self.dataset_fingerprint[:12]}): resume with the same --dataset."
            )

    def generator_state(self) -> NDArray[np.uint8]:
        """State of this learner's noise generator."""
        state: NDArray[np.uint8] = self.generator.get_state().numpy()
        return state

    def set_generator_state(self, state: NDArray[np.uint8] | None) -> None:
        """Go on with a saved stream of noise.

        Args:
            state: From ``generator_state``. None, and that of another kind of device, which cannot
                go on here, start a new stream.
        """
        if state is not None and len(state) == len(self.generator_state()):
            self.generator.set_state(torch.from_numpy(np.array(state)))
        else:
            self._seed_generator(self.num_updates)

    def save_to_path(self, *args: Any, **kwargs: Any) -> str:
        """RLlib's, which reports no errors of remote learners: they are kept for the algorithm."""
        self.save_error = None
        try:
            path: str = super().save_to_path(*args, **kwargs)
        except Exception as error:
            self.save_error = _state_error(error)
            raise
        return path

    def restore_from_path(self, *args: Any, **kwargs: Any) -> None:
        """RLlib's, which reports no errors of remote learners: they are kept for the algorithm."""
        self.restore_error = None
        try:
            super().restore_from_path(*args, **kwargs)
        except Exception as error:
            self.restore_error = _state_error(error)
            raise
