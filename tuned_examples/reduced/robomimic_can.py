"""FMQ on RoboMimic's can for two CPU cores and less than an hour.

    rllib data generate can --episodes 200
    rllib train file tuned_examples/reduced/robomimic_can.py --dataset auto -n robomimic_can
    rllib evaluate ~/ray_results/robomimic_can --episodes 50 --num-workers 2

Expected success rate: not measured here. The paper's full setting is
``tuned_examples/paper/fmq_can.py``; its score is not to be expected at this scale, on these data.

Time on two cores: 8 to 17 minutes of offline updates (25 to 50 ms each on a busy core) and 13 to
17 of environment steps with their updates (80 to 100 ms each, about 40 of them the simulator's),
while the other core evaluates: 6 evaluations of 10 episodes, for which training waits where they
take longer than the iteration that runs beside them. Plan 30 to 50 minutes; making the data comes
on top.

What differs from the paper: networks 3 x 256 instead of 4 x 512, batch 128 instead of 256, 4
instead of 32 candidates in the critic target and in collection, 20,000 offline updates and 10,000
environment steps instead of a million each, exact instead of tanh GELU. Evaluation is the
paper's: best of 32.

The simulator comes with the extra ``robomimic`` (``pip install -e '.[robomimic]'``) and makes
only 26 steps a second on a core (docs/TASKS.md): hence fewer steps, and 10 episodes in an
evaluation. The generated demonstrations are by scripts of three tiers.
"""

from rllib_fmq import FMQConfig

config = (
    FMQConfig()
    .environment("can-mh")
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
        online_env_steps=10_000,
        updates_per_iteration=1_000,
        learning_starts=500,
    )
    # One core learns and collects, the other evaluates meanwhile.
    .evaluation(
        evaluation_interval=5,
        evaluation_duration=10,
        evaluation_num_env_runners=1,
        evaluation_parallel_to_training=True,
    )
    .debugging(seed=0)
)
