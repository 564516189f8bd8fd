"""FMQ on OGBench's pointmaze-medium, task 1, for two CPU cores and less than an hour.

    rllib data generate pointmaze-medium-navigate-v0 --steps 100000 --val-fraction 0
    rllib train file tuned_examples/reduced/pointmaze.py --dataset auto -n pointmaze
    rllib evaluate ~/ray_results/pointmaze --episodes 50 --num-workers 2

Expected success rate: not measured here.

Time on two cores: 8 to 17 minutes of offline updates (25 to 50 ms each on a busy core) and 13 to
20 of environment steps with their updates (40 to 60 ms each), while the other core evaluates: 8
evaluations of 20 episodes, for which training waits where they take longer than the iteration
that runs beside them. Plan 25 to 45 minutes; making the data comes on top.

What differs from the paper: networks 3 x 256 instead of 4 x 512, batch 128 instead of 256, 4
instead of 32 candidates in the critic target and in collection, 20,000 offline updates and 20,000
environment steps instead of a million each, exact instead of tanh GELU. Evaluation is the
paper's: best of 32.

None of the paper's tasks, but the cheapest maze: a point that needs no policy to walk.
"""

from rllib_fmq import FMQConfig

config = (
    FMQConfig()
    .environment("pointmaze-medium-navigate-singletask-task1-v0")
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
        offline_updates=20_000,
        online_env_steps=20_000,
        updates_per_iteration=1_000,
        learning_starts=500,
    )
    # One core learns and collects, the other evaluates meanwhile.
    .evaluation(
        evaluation_interval=5,
        evaluation_duration=20,
        evaluation_num_env_runners=1,
        evaluation_parallel_to_training=True,
    )
    .debugging(seed=0)
)
