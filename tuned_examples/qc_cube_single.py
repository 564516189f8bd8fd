"""QC on OGBench's cube-single, task 2, at the paper's settings (Tables 6 and 7).

    rllib train file tuned_examples/qc_cube_single.py --dataset FILE

A million offline updates and a million environment steps with networks of 4 x 512: meant for a GPU.
Each decision takes 320 actor evaluations: 10 Euler steps of 32 candidates.
"""

from rllib_fmq import QCConfig

config = (
    QCConfig()
    .environment("cube-single-play-singletask-task2-v0")
    .offline_data(dataset="auto")
    .training(horizon_length=5, euler_steps=10, num_candidates=32)
    .phases(offline_updates=1_000_000, online_env_steps=1_000_000, learning_starts=5_000)
    # Every 100,000 updates or environment steps.
    .evaluation(evaluation_interval=100, evaluation_duration=50)
    .debugging(seed=0)
)
