"""MVP on OGBench's cube-single, task 2, at the paper's settings (Tables 6 and 7, App. H).

    rllib train file tuned_examples/mvp_cube_single.py --dataset FILE

A million offline updates and a million environment steps with networks of 4 x 512: meant for a GPU.
With the conditioning axis, which is off by default (D7 in docs/DEPARTURES.md), the network has more
inputs than FMQ's, so FMQ cannot start from this run's offline checkpoint.
"""

from rllib_fmq import MVPConfig

config = (
    MVPConfig()
    .environment("cube-single-play-singletask-task2-v0")
    .offline_data(dataset="auto")
    .training(horizon_length=5, num_candidates=32)
    .training(conditioning_axis=True, conditioning_start=10_000, conditioning_zero_prob=0.5)
    .phases(offline_updates=1_000_000, online_env_steps=1_000_000, learning_starts=5_000)
    # Every 100,000 updates or environment steps.
    .evaluation(evaluation_interval=100, evaluation_duration=50)
    .debugging(seed=0)
)
