"""FMQ on OGBench's humanoidmaze-medium, task 4, at the paper's settings (Tables 6 and 7).

    rllib data download hmaze-med-t4
    rllib train file tuned_examples/paper/fmq_hmaze_med_t4.py --dataset auto --seed 1

Expected success rate (the paper's Table 1: mean ± standard deviation over 5 seeds of 50 episodes,
after a million offline updates on the official data and a million environment steps; not
reproduced with this package yet):

    FMQ             0.06 ± 0.03

Scores near 0 are to be expected: none of the paper's methods solves this task.

A run is meant for a GPU: the paper's took about 4 hours on an A100 (App. H). Everything not named
here is a default of ``FMQConfig``; see docs/CONFIG.md.
"""

from rllib_fmq import FMQConfig

config = (
    FMQConfig()
    .environment("humanoidmaze-medium-navigate-singletask-task4-v0")
    .offline_data(dataset="auto")
    .training(eta=1.0, beta=0.3, horizon_length=5, num_candidates=32)
    .phases(offline_updates=1_000_000, online_env_steps=1_000_000, learning_starts=5_000)
    # Every 100,000 updates or environment steps.
    .evaluation(evaluation_interval=100, evaluation_duration=50)
    .debugging(seed=0)
)
