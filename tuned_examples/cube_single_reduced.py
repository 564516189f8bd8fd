"""FMQ on cube-single task 2 at a scale that two CPU cores finish in half an hour.

What differs from the paper: networks 3 x 256 instead of 4 x 512, batch 128 instead of 256,
4 instead of 32 candidates in the critic target and in collection, tens of thousands instead
of millions of updates and steps, exact instead of tanh GELU (faster on CPUs, differs by less
than 1e-3). Evaluation is the paper's: best of 32.

    rllib train file tuned_examples/cube_single_reduced.py --dataset FILE
"""

from rllib_fmq import FMQConfig

config = (
    FMQConfig()
    .environment("cube-single-play-singletask-task2-v0")
    .training(
        actor_hidden=(256, 256, 256),
        critic_hidden=(256, 256, 256),
        gelu="none",
        train_batch_size_per_learner=128,
        target_num_candidates=4,
        collection_num_candidates=4,
        diagonal_warmup_updates=1_000,
        interval_anneal_end=6_000,
    )
    .phases(
        offline_updates=12_000,
        online_env_steps=12_000,
        updates_per_iteration=1_000,
        learning_starts=500,
    )
    # One core learns and collects, the other evaluates meanwhile. Two threads for networks of
    # this size would mostly wait for each other.
    .evaluation(
        evaluation_interval=3,
        evaluation_duration=20,
        evaluation_num_env_runners=1,
        evaluation_parallel_to_training=True,
    )
    .debugging(seed=0)
)
