"""The settings that the four methods share, and their defaults: the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_fmq.algorithms.paths import AUTO
from rllib_fmq.algorithms.selectors import SelectorChoice
from rllib_fmq.rollout.callbacks import SuccessCallback
from rllib_fmq.rollout.env_runner import FlowMapEnvRunner
from rllib_fmq.rollout.evaluation import evaluate_on_runners
from rllib_fmq.seeds import EVALUATION_SEED


class FlowMapSettings(AlgorithmConfig):
    """Every key of FMQ, QGBS, MVP and QC with its default; ``FlowMapConfig`` sets them."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class)
        # Q-guidance. eta: trust-region radius. beta: sensitivity to critic disagreement.
        self.eta = 1.0
        self.beta = 0.3
        # kappa_1 and kappa_2 of Eq. 12 and 13.
        self.grad_eps = 1e-8
        self.disagreement_eps = 1e-8
        # "eta" (Alg. 1) or "one" (Eq. 13 as printed): numerator of eta_eff (D12).
        self.radius_numerator = "eta"
        # "first" (Q_1, Alg. 1) or "mean": critic whose gradient guides FMQ (D13).
        self.guidance_critic = "first"
        # Weights of the offline losses during FMQ's online phase (D16).
        self.online_diagonal_weight = 0.0
        self.online_distillation_weight = 0.0

        # Offline actor loss: diagonal + lambda_sd * ("esd" | "lsd" | "psd").
        self.lambda_sd = 1.0
        self.distillation = "esd"
        # Which side of LSD and PSD carries the gradient: "jump" or "composition" (D6).
        self.distillation_student = "jump"
        # Updates before self-distillation starts, and at which the interval is full (D8).
        self.diagonal_warmup_updates = 5_000
        self.interval_anneal_end = 50_000
        # MVP's extra conditioning axis (t_c, a_c; D7): on or off, from which update, P(t_c = 0).
        self.conditioning_axis = False
        self.conditioning_start = 10_000
        self.conditioning_zero_prob = 0.5

        # Steps in an action chunk (H).
        self.horizon_length = 5
        # Selectors: "sample" | "best_of_n" | "euler" | "qgbs", or a dict of SelectorSettings.
        # One sample collects and is in the target in the paper's text (D22, D1).
        self.collection_selector: SelectorChoice = "best_of_n"
        self.target_selector: SelectorChoice = "best_of_n"
        self.evaluation_selector: SelectorChoice = "best_of_n"
        # N of best-of-N; the two others default to it.
        self.num_candidates = 32
        self.target_num_candidates: int | None = None
        self.collection_num_candidates: int | None = None
        # QC's integrator.
        self.euler_steps = 10
        # QGBS: M, K, B, its own radius, rho, and "jump" (Alg. 2) or "euler" completion (D20).
        self.beam_width = 4
        self.search_iters = 1
        self.branches = 4
        self.qgbs_eta = 0.3
        self.snr = 1.5
        self.qgbs_completion = "jump"

        # "min" (clipped double Q) or "mean" over the target critics, over the critics that
        # score the target's candidates, and over those that score candidates when acting
        # (D2, D1, D21).
        self.target_aggregation = "min"
        self.target_scoring = "mean"
        self.scoring = "min"

        # Networks (Table 6).
        self.actor_hidden: Sequence[int] = (512, 512, 512, 512)
        self.critic_hidden: Sequence[int] = (512, 512, 512, 512)
        self.num_critics = 2
        self.time_embedding_dim = 64
        # "tanh" or "none" (exact; differs by < 1e-3, faster on CPUs) (D26).
        self.gelu = "tanh"

        # Optimisation (Table 6).
        self.gamma = 0.99
        self.tau = 0.005
        self.lr = 3e-4
        self.train_batch_size_per_learner = 256
        self.replay_capacity = 2_000_000
        # Whether Adam's moments start anew at the offline-online switch (D14).
        self.reset_optimizer_online = False
        # Training that diverges stops: no loss of a working run comes near; None: no bound.
        self.max_loss: float | None = 1e10
        # Gradient updates between two checks that all learners have the same parameters; 0: none.
        self.parameter_check_interval = 1_000

        # Speed. Compile the update: "auto" (long runs with a compiler at hand) | True | False.
        self.compile_updates: bool | str = "auto"
        # Threads of a learner on a CPU; None: the cores that the run's other processes leave.
        self.learner_threads: int | None = None
        # Replay each update as a recorded CUDA graph.
        self.cuda_graphs = False

        # Data: path of a dataset, "auto", or None; where "auto" looks first; and which of a
        # RoboMimic file's masks to use.
        self.dataset: str | None = AUTO
        self.dataset_dir: str | None = None
        self.dataset_filter: str | None = None

        # Phases.
        self.offline_updates = 1_000_000
        self.online_env_steps = 1_000_000
        self.updates_per_iteration = 1_000
        self.utd_ratio = 1.0
        self.learning_starts = 5_000
        self.initial_checkpoint: str | None = None

        # Faults. Repeat the running episodes' actions when a run is resumed: never on a robot.
        self.resume_episodes = True
        # Faults of one environment without an episode that it finished, after which a run stops.
        self.max_env_faults = 10
        # Seconds that an environment may take for a step, a reset, or being made; None: no limit.
        self.env_step_timeout_s: float | None = None
        self.env_runner_cls = FlowMapEnvRunner
        # A runner that does not answer for so long is killed and restarted.
        self.sample_timeout_s: float | None = 600.0
        self.delay_between_env_runner_restarts_s = 1.0
        self.max_num_env_runner_restarts = 100

        # Versions by which a policy that collects may be behind the newest; 0: runners wait while
        # learners update.
        self.max_policy_lag = 1
        # No connector of ours has a state; RLlib would wait for the runners to ask for it.
        self.merge_env_runner_states: bool | str = False

        # Evaluation: episode k starts from seed evaluation_seed + k (D29).
        self.evaluation_seed = EVALUATION_SEED
        self.evaluation_duration: int | str = 50
        self.evaluation_duration_unit = "episodes"
        self.custom_evaluation_function = evaluate_on_runners
        # In iterations; with 1,000 updates in each, the paper's 100K (Table 6).
        self.evaluation_interval: int | None = 100
        self.callbacks_class: Any = SuccessCallback

        # Environment steps of each environment between two rounds of updates (D27).
        self.rollout_fragment_length = 50
        # The learner makes its own finite check, once a call instead of twice a parameter.
        self.torch_skip_nan_gradients = True
        self.torch_ddp_kwargs = {"broadcast_buffers": False}
