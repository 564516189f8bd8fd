"""The config that the four methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rllib_fmq.algorithms.paths import absolute_path
from rllib_fmq.algorithms.selectors import SelectorChoice, resolve_selector
from rllib_fmq.algorithms.settings import FlowMapSettings
from rllib_fmq.algorithms.validation import check_values, validate_config
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.learner.flow_map_learner import FlowMapLearner
from rllib_fmq.nn.flow_map_module import FlowMapModule, selector_dict
from rllib_fmq.nn.objectives import LossSettings, OnlineObjective
from rllib_fmq.rollout.chunking import PlanRequest, PopChunk
from rllib_fmq.rollout.flattening import FlattenAsGymnasium


class FlowMapConfig(FlowMapSettings):
    """Settings of FMQ, QGBS, MVP and QC; defaults are the paper's.

    Example:
        >>> config = (
        ...     FMQConfig()
        ...     .environment("cube-single-play-singletask-task2-v0")
        ...     .offline_data(dataset="cube-single-play-v0.npz")
        ...     .training(eta=1.0, beta=0.3)
        ...     .phases(offline_updates=20_000, online_env_steps=20_000)
        ... )
        >>> algo = config.build_algo()
    """

    online_objective: OnlineObjective = "q_guidance"
    """What the actor minimises online; fixed by the method."""

    def training(
        self,
        *,
        eta: float = NotProvided,
        beta: float = NotProvided,
        grad_eps: float = NotProvided,
        disagreement_eps: float = NotProvided,
        radius_numerator: str = NotProvided,
        guidance_critic: str = NotProvided,
        online_diagonal_weight: float = NotProvided,
        online_distillation_weight: float = NotProvided,
        lambda_sd: float = NotProvided,
        distillation: str = NotProvided,
        distillation_student: str = NotProvided,
        diagonal_warmup_updates: int = NotProvided,
        interval_anneal_end: int = NotProvided,
        conditioning_axis: bool = NotProvided,
        conditioning_start: int = NotProvided,
        conditioning_zero_prob: float = NotProvided,
        horizon_length: int = NotProvided,
        collection_selector: SelectorChoice = NotProvided,
        target_selector: SelectorChoice = NotProvided,
        num_candidates: int = NotProvided,
        target_num_candidates: int | None = NotProvided,
        collection_num_candidates: int | None = NotProvided,
        euler_steps: int = NotProvided,
        beam_width: int = NotProvided,
        search_iters: int = NotProvided,
        branches: int = NotProvided,
        qgbs_eta: float = NotProvided,
        snr: float = NotProvided,
        qgbs_completion: str = NotProvided,
        target_aggregation: str = NotProvided,
        target_scoring: str = NotProvided,
        scoring: str = NotProvided,
        actor_hidden: Sequence[int] = NotProvided,
        critic_hidden: Sequence[int] = NotProvided,
        num_critics: int = NotProvided,
        time_embedding_dim: int = NotProvided,
        gelu: str = NotProvided,
        tau: float = NotProvided,
        replay_capacity: int = NotProvided,
        reset_optimizer_online: bool = NotProvided,
        max_loss: float | None = NotProvided,
        parameter_check_interval: int = NotProvided,
        compile_updates: bool | str = NotProvided,
        learner_threads: int | None = NotProvided,
        cuda_graphs: bool = NotProvided,
        **kwargs: Any,
    ) -> FlowMapConfig:
        """Set what is trained and how; see docs/CONFIG.md for each key.

        Args:
            eta: Trust-region radius of FMQ, >= 0, in action units.
            beta: Sensitivity of the radius to critic disagreement, >= 0.
            grad_eps: kappa_1, > 0.
            disagreement_eps: kappa_2, > 0.
            radius_numerator: "eta" or "one".
            guidance_critic: "first" or "mean".
            online_diagonal_weight: Weight of the diagonal loss in FMQ's online phase, >= 0.
            online_distillation_weight: The same of the self-distillation loss.
            lambda_sd: Weight of self-distillation, >= 0.
            distillation: "esd", "lsd" or "psd".
            distillation_student: "jump" or "composition".
            diagonal_warmup_updates: Updates on the diagonal only.
            interval_anneal_end: Update at which the interval is full.
            conditioning_axis: MVP's (t_c, a_c), MVP only.
            conditioning_start: Update from which it is trained.
            conditioning_zero_prob: P(t_c = 0).
            horizon_length: H, primitive steps in a chunk, >= 1.
            collection_selector: How online data are collected.
            target_selector: How the critic target's action is chosen.
            num_candidates: N of best-of-N, >= 1.
            target_num_candidates: N in the critic target; None: ``num_candidates``.
            collection_num_candidates: N in collection; None: ``num_candidates``.
            euler_steps: Steps of "euler".
            beam_width: M of QGBS.
            search_iters: K of QGBS.
            branches: B of QGBS.
            qgbs_eta: Radius of QGBS's step.
            snr: rho of QGBS, > 0.
            qgbs_completion: "jump" or "euler".
            target_aggregation: "min" or "mean" over target critics.
            target_scoring: "min" or "mean", scoring the target's candidates.
            scoring: "min" or "mean", scoring candidates when acting.
            actor_hidden: Widths of the actor.
            critic_hidden: Widths of the critics.
            num_critics: Size of the ensemble, >= 2 where beta > 0.
            time_embedding_dim: Features of a flow time, even.
            gelu: "tanh" or "none" (exact).
            tau: Polyak coefficient in (0, 1].
            replay_capacity: Transitions at most, offline ones included.
            reset_optimizer_online: Clear Adam's moments at the switch.
            max_loss: Stop the run when a loss is larger, > 0; None: only when it is not finite.
            parameter_check_interval: Updates between two checks that all learners have the same
                parameters, >= 0; 0: never.
            compile_updates: "auto", True or False.
            learner_threads: Of a learner on a CPU, >= 1; None: the cores that are left.
            cuda_graphs: Replay updates as CUDA graphs.
            **kwargs: RLlib's own keys: gamma, lr, train_batch_size_per_learner, ...
        Returns:
            This config.
        """
        own = {k: v for k, v in locals().items() if k not in ("self", "kwargs", "__class__")}
        super().training(**kwargs)
        return self._set(own)

    def offline_data(
        self,
        *,
        dataset: str | None = NotProvided,
        dataset_dir: str | None = NotProvided,
        dataset_filter: str | None = NotProvided,
        **kwargs: Any,
    ) -> FlowMapConfig:
        """Name the dataset.

        Args:
            dataset: Path of a file or folder in any format of docs/DATA.md, or "minari:ID";
                "auto" for the environment's own (a local file, else a download); None for no
                dataset. Arrays in memory: write them with ``save_transitions`` first, because
                learners in other processes read the dataset themselves.
            dataset_dir: Where "auto" looks before ``$RLLIB_FMQ_DATA_DIR`` and
                ``~/.ogbench/data``.
            dataset_filter: Filter key of a RoboMimic file, such as "train"; None: all
                demonstrations.
            **kwargs: RLlib's own keys.
        Returns:
            This config.
        """
        super().offline_data(**kwargs)
        return self._set(
            {
                "dataset": absolute_path(dataset),
                "dataset_dir": absolute_path(dataset_dir, "dataset_dir"),
                "dataset_filter": dataset_filter,
            }
        )

    def env_runners(self, *, max_policy_lag: int = NotProvided, **kwargs: Any) -> FlowMapConfig:
        """Set how online data are collected; see docs/SCALING.md.

        Args:
            max_policy_lag: Versions by which the policy that collected may be behind the newest
                one when learners get its fragments, >= 0, with remote env-runners. 0: they wait
                while learners update. A chunk begun in the fragment before is carried out to its
                end, so its actions may be of an older policy still.
            **kwargs: RLlib's own keys (``num_env_runners``, ``num_envs_per_env_runner``,
                ``rollout_fragment_length``, ...).
        Returns:
            This config.
        """
        super().env_runners(**kwargs)
        return self._set({"max_policy_lag": max_policy_lag})

    def phases(
        self,
        *,
        offline_updates: int = NotProvided,
        online_env_steps: int = NotProvided,
        updates_per_iteration: int = NotProvided,
        utd_ratio: float = NotProvided,
        learning_starts: int = NotProvided,
        initial_checkpoint: str | None = NotProvided,
    ) -> FlowMapConfig:
        """Set how long each phase lasts.

        Args:
            offline_updates: Gradient updates on the dataset; 0 for an online-only run.
            online_env_steps: Primitive environment steps; 0 for an offline-only run.
            updates_per_iteration: Updates in one ``train()`` call; online, the environment
                steps of one call are this over ``utd_ratio``.
            utd_ratio: Gradient updates an environment step, > 0.
            learning_starts: Online environment steps before the first online update.
            initial_checkpoint: Checkpoint of any of the four methods whose networks and
                optimiser this run starts from; the offline phase then counts as done.
        Returns:
            This config.
        """
        given = {k: v for k, v in locals().items() if k != "self"}
        checkpoint = absolute_path(initial_checkpoint, "initial_checkpoint")
        return self._set(given | {"initial_checkpoint": checkpoint})

    def evaluation(
        self,
        *,
        evaluation_selector: SelectorChoice = NotProvided,
        evaluation_seed: int = NotProvided,
        **kwargs: Any,
    ) -> FlowMapConfig:
        """Set evaluation: exactly ``evaluation_duration`` episodes on fixed, unseen seeds.

        Args:
            evaluation_selector: How actions are chosen in evaluation.
            evaluation_seed: Episode k is reset with this plus k.
            **kwargs: RLlib's own keys (``evaluation_interval``, ``evaluation_duration``,
                ``evaluation_num_env_runners``, ``evaluation_parallel_to_training``, ...).
        Returns:
            This config.
        """
        super().evaluation(**kwargs)
        return self._set(
            {"evaluation_selector": evaluation_selector, "evaluation_seed": evaluation_seed}
        )

    def fault_tolerance(
        self,
        *,
        resume_episodes: bool = NotProvided,
        max_env_faults: int = NotProvided,
        env_step_timeout_s: float | None = NotProvided,
        **kwargs: Any,
    ) -> FlowMapConfig:
        """Set what happens when an environment or a process fails; see docs/FAULTS.md.

        Args:
            resume_episodes: Whether a resumed run repeats the actions of its unfinished
                episodes, so that they go on. False for robots and all else that cannot be set
                back: their actions must not be taken again.
            max_env_faults: Faults of one sub-environment, without an episode that it finished
                between them, that are survived, >= 0.
            env_step_timeout_s: Seconds that an environment may take for a step, a reset, or
                being made, > 0; None: no limit.
            **kwargs: RLlib's own keys.
        Returns:
            This config.
        """
        own = {k: v for k, v in locals().items() if k not in ("self", "kwargs", "__class__")}
        super().fault_tolerance(**kwargs)
        return self._set(own)

    def selector(self, use: str) -> SelectorSettings:
        """Resolve the selector of one use.

        Args:
            use: "collection", "target" or "evaluation".
        Returns:
            The selector's settings, with this config's numbers where the choice is a name.
        Raises:
            ValueError: For an unknown kind, field or number.
        """
        return resolve_selector(self, use)

    def loss_settings(self) -> LossSettings:
        """The numbers and choices of the losses."""
        own = {"target_selector", "imitation_candidates"}
        same_name = {
            f.name: getattr(self, f.name) for f in fields(LossSettings) if f.name not in own
        }
        return LossSettings(
            target_selector=self.selector("target"),
            imitation_candidates=self.num_candidates,
            **same_name,
        )

    def online_steps_per_round(self) -> int:
        """Environment steps collected between two rounds of updates."""
        steps: int = (
            self.get_rollout_fragment_length()
            * self.num_envs_per_env_runner
            * max(1, self.num_env_runners)
        )
        return steps

    def validate(self) -> None:
        """Refuse unknown keys and contradictory settings.

        Raises:
            ValueError: Names the key, its value, what was expected, and what to do.
        """
        check_values(self)
        super().validate()
        validate_config(self)

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """``FlowMapModule``."""
        return RLModuleSpec(module_class=FlowMapModule)

    def get_default_learner_class(self) -> type[FlowMapLearner]:
        """``FlowMapLearner``."""
        return FlowMapLearner

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        included: dict[str, Any] = super()._model_config_auto_includes | {
            "horizon_length": self.horizon_length,
            "scoring": self.scoring,
            "actor_hidden": tuple(self.actor_hidden),
            "critic_hidden": tuple(self.critic_hidden),
            "num_critics": self.num_critics,
            "time_embedding_dim": self.time_embedding_dim,
            "gelu": self.gelu,
            "conditioning_axis": self.conditioning_axis,
            "collection_selector": selector_dict(self.selector("collection")),
            "evaluation_selector": selector_dict(self.selector("evaluation")),
        }
        return included

    def build_env_to_module_connector(
        self, env: Any = None, spaces: Any = None, device: Any = None
    ) -> Any:
        """RLlib's pipeline, Dict observations flattened first, plans requested last."""
        pipeline = super().build_env_to_module_connector(env=env, spaces=spaces, device=device)
        if hasattr(pipeline.input_observation_space, "spaces"):
            pipeline.prepend(FlattenAsGymnasium())
        pipeline.append(PlanRequest())
        return pipeline

    def build_module_to_env_connector(self, env: Any = None, spaces: Any = None) -> Any:
        """RLlib's pipeline, chunks popped first."""
        pipeline = super().build_module_to_env_connector(env=env, spaces=spaces)
        pipeline.prepend(PopChunk())
        return pipeline

    def _set(self, values: Mapping[str, Any]) -> FlowMapConfig:
        for key, value in values.items():
            if value is not NotProvided:
                setattr(self, key, value)
        return self
