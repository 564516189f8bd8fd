"""FMQ on OGBench's cube-single, task 2, at the paper's settings (Table 6, and Table 7).

    rllib train file tuned_examples/fmq_cube_single.py --dataset FILE

A million offline updates and a million environment steps with networks of 4 x 512: meant for a GPU.
Everything not named here is a default of ``FMQConfig``; see docs/CONFIG.md.
"""

from rllib_fmq import FMQConfig

config = (
    FMQConfig()
    .environment("cube-single-play-singletask-task2-v0")
    .offline_data(dataset="auto")
    .training(eta=1.0, beta=0.3, horizon_length=5, num_candidates=32)
    .phases(offline_updates=1_000_000, online_env_steps=1_000_000, learning_starts=5_000)
    # Every 100,000 updates or environment steps.
    .evaluation(evaluation_interval=100, evaluation_duration=50)
    .debugging(seed=0)
)
