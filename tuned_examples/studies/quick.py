"""Every step of a study in some minutes; nothing is learned.

    rllib data generate pointmaze-medium-navigate-v0 --steps 10000 --seed 0 --val-fraction 0 \\
        --output results/quick-data/pointmaze-medium-navigate-v0.npz
    rllib study run tuned_examples/studies/quick.py --dataset-dir results/quick-data
    rllib study report results/quick
"""

from rllib_fmq.studies import Method, Setting, Study, StudyTask

study = Study(
    name="quick",
    description="Does everything run here?",
    scale="reduced",
    scale_note="Too small to learn anything: 400 updates and 600 environment steps.",
    tasks=[StudyTask(f"pointmaze-medium-navigate-singletask-task{n}-v0") for n in (1, 2)],
    methods=[Method("MVP", final_selectors=("qgbs",)), Method("FMQ", final_selectors=("qgbs",))],
    seeds=(0, 1),
    config={
        "actor_hidden": [64, 64],
        "critic_hidden": [64, 64],
        "train_batch_size_per_learner": 64,
        "num_candidates": 4,
        "diagonal_warmup_updates": 50,
        "interval_anneal_end": 200,
        "offline_updates": 400,
        "online_env_steps": 600,
        "learning_starts": 100,
        "updates_per_iteration": 200,
        "evaluation_interval": 1,
        "evaluation_duration": 2,
        "env_config": {"max_episode_steps": 200},
        "learner_threads": 1,
    },
    settings=[Setting("eta=0.3", {"eta": 0.3}, methods=("FMQ",))],
    final_episodes=4,
)
