"""The Learner: samples from its own replay and runs many updates a call."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from torch import Tensor

from rllib_fmq import flow
from rllib_fmq.learner.capture import CapturedUpdate, CudaGraphs
from rllib_fmq.learner.compiling import COMPILING, will_compile
from rllib_fmq.learner.initial_checkpoint import InitialState
from rllib_fmq.learner.lean_torch_learner import LeanTorchLearner
from rllib_fmq.learner.loading import load_replay
from rllib_fmq.learner.memory import keep_freed_memory
from rllib_fmq.learner.metric_sums import MetricSums
from rllib_fmq.learner.threads import choose_threads
from rllib_fmq.nn.flow_map_module import CONTEXT, LOSSES, METRICS, WINDOWS, FlowMapModule
from rllib_fmq.nn.objectives import LossSettings, UpdateContext, WindowBatch

LEARNER_STATE = "flow_map_learner"
RANK_STRIDE = 1_000_003
"""Between the seeds of two learners; RLlib itself gives all of them the same."""
UPDATE_STRIDE = 1_000_000_007
"""Between the seeds of a run resumed at two successive updates."""

logger = logging.getLogger(__name__)


class FlowMapLearner(LeanTorchLearner):
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
        self.restore_error = ""
        """What went wrong in the last ``restore_from_path``; empty if nothing did."""
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

    def _load_replay(self) -> None:
        module = self.flow_module
        self.replay, self.dataset_fingerprint = load_replay(
            self.config,
            observation_space=module.observation_space,
            action_space=module.action_space,
            device=self._device,
        )

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
        """
        self.before_gradient_based_update(timesteps=timesteps or {})
        for item in fragments:
            self.store(ray.get(item) if isinstance(item, ray.ObjectRef) else item)
        if num_updates and self.compiled and not self._said_compiling:
            self._said_compiling = True
            logger.info(COMPILING)
        sums = MetricSums()
        for _ in range(num_updates):
            sums.add(self._next_update())
            self.num_updates += 1
        # Without this, env-runners take the weights for the ones they have.
        self._weights_seq_no += 1
        if num_updates:
            self._log_means(sums.means())
        self.after_gradient_based_update(timesteps=timesteps or {})
        reduced: dict[str, Any] = self.metrics.reduce()
        return reduced

    def store(self, episodes: Sequence[SingleAgentEpisode]) -> None:
        """Append episode fragments to the replay.

        Args:
            episodes: As env-runners return them, actions in [-1, 1].
        """
        for episode in episodes:
            if len(episode) == 0:
                continue
            num = len(episode)
            self.replay.add_fragment(
                episode.id_,
                np.asarray(episode.get_observations()),
                np.asarray(episode.get_actions()).reshape(num, -1),
                np.asarray(episode.get_rewards()),
                terminated=episode.is_terminated,
                done=episode.is_done,
            )

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

    def _log_means(self, means: dict[str, float]) -> None:
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            raise FloatingPointError(
                f"{bad[0]} is not finite at update {self.num_updates}: training diverged. Lower "
                "lr, or look for extreme rewards or observations in the data "
                "(rllib data info FILE)."
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
        """RLlib's state, and replay, counters and the noise generator."""
        state: dict[str, Any] = super().get_state(
            components, not_components=not_components, **kwargs
        )
        if self._check_component(LEARNER_STATE, components, not_components):
            state[LEARNER_STATE] = {
                "num_updates": self.num_updates,
                "online": self.online,
                "jumps_trained": self.jumps_trained,
                "generator": self.generator.get_state().numpy(),
                "dataset_fingerprint": self.dataset_fingerprint,
                "replay": self.replay.get_state(),
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what ``get_state`` gave.

        Raises:
            ValueError: If this run's dataset is not the one of the checkpoint.
        """
        super().set_state(state)
        own = state.get(LEARNER_STATE)
        if own is None:
            return
        if own["dataset_fingerprint"] != self.dataset_fingerprint:
            raise ValueError(
                "the checkpoint was trained on another dataset (fingerprint "
                f"{own['dataset_fingerprint'][:12]}, here {self.dataset_fingerprint[:12]}): "
                "resume with the same --dataset."
            )
        self.num_updates = own["num_updates"]
        self.online = own["online"]
        self.jumps_trained = own["jumps_trained"]
        if self.distributed:
            # The checkpoint holds the first learner's generator: all start a new stream.
            self._seed_generator(self.num_updates)
        else:
            self.generator.set_state(torch.from_numpy(np.array(own["generator"])))
        if self.replay.num_online:
            del self.replay  # two of them may not fit into memory
            self._load_replay()
        self.replay.set_state(own["replay"])
        self.replay.forget_open_episodes()

    def restore_from_path(self, *args: Any, **kwargs: Any) -> None:
        """RLlib's, which reports no errors of remote learners: they are kept for the algorithm."""
        self.restore_error = ""
        try:
            super().restore_from_path(*args, **kwargs)
        except Exception as error:
            self.restore_error = str(error)
            raise
