"""QC, MVP and FMQ, with best-of-32 and with QGBS, at a scale that two CPU cores can run.

    rllib data generate cube-single-play-v0 --steps 100000 --seed 0 --val-fraction 0 \\
        --output data/cube-single-play-v0.npz
    rllib data generate pointmaze-medium-navigate-v0 --steps 100000 --seed 0 --val-fraction 0 \\
        --output data/pointmaze-medium-navigate-v0.npz
    rllib study run tuned_examples/studies/reduced.py --dataset-dir data
    rllib study report results/reduced

Add ``--only cube`` or ``--only pointmaze`` for a part. RoboMimic's can needs the extra [robomimic]
and demonstrations; ours were 58 scripted ones in three tiers of quality, made elsewhere in the
format that ``rllib data generate can`` writes:

    rllib data generate can --episodes 58 --output data/can_scripted.hdf5

Results and what they cost: docs/RESULTS.md.
"""

from rllib_fmq.studies import Method, Setting, Study, StudyTask

CUBE = "cube-single-play-singletask-task{}-v0"
T1, T2 = CUBE.format(1), CUBE.format(2)
POINTMAZE = "pointmaze-medium-navigate-singletask-task1-v0"
BEST_OF_32 = {"kind": "best_of_n", "num_candidates": 32}


def qgbs(search_iters, branches, beam_width):
    """One configuration of the search of the paper's Table 2."""
    return {
        "kind": "qgbs",
        "search_iters": search_iters,
        "branches": branches,
        "beam_width": beam_width,
    }


SEARCHES = tuple(
    qgbs(k, b, m)
    for k, b, m in ((1, 2, 8), (1, 1, 16), (1, 4, 16), (2, 4, 4), (2, 1, 16), (2, 4, 16))
)
# What tells the search's parts apart: fewer candidates without a search, the search without its
# gradient step, nothing but the gradient step (K = 0), and renoising that stays nearer.
PARTS = (
    *({"kind": "best_of_n", "num_candidates": n} for n in (4, 16)),
    qgbs(1, 4, 4) | {"eta": 0.0},
    qgbs(0, 4, 4),
    qgbs(1, 4, 4) | {"snr": 6.0},
    qgbs(1, 4, 16) | {"eta": 0.0},
)


def on_task_2(name, methods=("FMQ",), **config):
    """A variation on cube-single task 2."""
    return Setting(name, config, methods, (T2,), seeds=(0, 1, 2), final_selectors=("qgbs",))


study = Study(
    name="reduced",
    description="Does FMQ beat its own offline policy, MVP and QC at equal environment steps?",
    scale="reduced",
    scale_note=(
        "Networks of 2 x 256 instead of 4 x 512, batches of 128 instead of 256, 4 instead of 32 "
        "candidates in the critic target, in collection and in MVP's selection of what to "
        "imitate, 8,000 instead of 1,000,000 "
        "offline updates, 8,000 instead of 1,000,000 online environment steps, datasets of "
        "100,000 instead of 1,000,000 transitions made by scripted policies, updates from online "
        "step 500 instead of 5,000, the time curriculum from update 500 to 4,000 instead of 5,000 "
        "to 50,000, 10 instead of 50 episodes an evaluation and 25 in the end. On can: 4,000 "
        "environment steps, 5 episodes an evaluation and 10 in the end. "
        "Evaluation is the paper's: best of 32 (QC: 10 Euler steps), QGBS "
        "with K = 1, B = 4, M = 4."
    ),
    tasks=[
        StudyTask(T2, seeds=range(5)),
        StudyTask(T1, final_selectors=("qgbs",)),
        StudyTask(POINTMAZE, final_selectors=("qgbs",)),
        StudyTask(
            "can",
            "can_scripted.hdf5",
            # A step of this environment takes longer than an update.
            config={"online_env_steps": 4_000, "evaluation_interval": 4, "evaluation_duration": 5},
            final_episodes=10,
            final_selectors=("qgbs",),
        ),
    ],
    methods=[
        Method("QC", config={"evaluation_selector": {"kind": "euler", "num_candidates": 32}}),
        Method("MVP", final_selectors=("qgbs",)),
        Method("FMQ", final_selectors=("qgbs", *SEARCHES, *PARTS)),
    ],
    seeds=range(3),
    config={
        "actor_hidden": [256, 256],
        "critic_hidden": [256, 256],
        "train_batch_size_per_learner": 128,
        "compile_updates": True,
        "learner_threads": 1,
        "num_candidates": 4,
        "evaluation_selector": BEST_OF_32,
        "diagonal_warmup_updates": 500,
        "interval_anneal_end": 4_000,
        "offline_updates": 8_000,
        "online_env_steps": 8_000,
        "learning_starts": 500,
        "updates_per_iteration": 1_000,
        "evaluation_interval": 2,
        "evaluation_duration": 10,
    },
    settings=[
        on_task_2("eta=0.3", eta=0.3),
        on_task_2("eta=3", eta=3.0),
        on_task_2("beta=0", beta=0.0),
        on_task_2("beta=1", beta=1.0),
        on_task_2("N=1", num_candidates=1),
        on_task_2("N=16", methods=("MVP", "FMQ"), num_candidates=16),
        on_task_2("lambda=0.3", lambda_sd=0.3),
        on_task_2("distillation=lsd", distillation="lsd"),
        on_task_2("distillation=psd", distillation="psd"),
    ],
    final_episodes=25,
    checkpoint_interval=4,
)
