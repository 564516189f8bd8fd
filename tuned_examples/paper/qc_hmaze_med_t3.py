"""QC on OGBench's humanoidmaze-medium, task 3, at the paper's settings (Tables 6 and 7).

    rllib data download hmaze-med-t3
    rllib train file tuned_examples/paper/qc_hmaze_med_t3.py --dataset auto --seed 1

Expected success rate (the paper's Table 1: mean ± standard deviation over 5 seeds of 50 episodes,
after a million offline updates on the official data and a million environment steps; not
reproduced with this package yet):

    QC              0.65 ± 0.11

The best score of Table 1 on this task is 0.69. Each decision takes 320 actor evaluations: 10
Euler steps of 32 candidates.

A run is meant for a GPU: the paper's took about 4 hours on an A100 (App. H). Everything not named
here is a default of ``QCConfig``; see docs/CONFIG.md.
"""

from rllib_fmq import QCConfig

config = (
    QCConfig()
    .environment("humanoidmaze-medium-navigate-singletask-task3-v0")
    .offline_data(dataset="auto")
    .training(horizon_length=5, euler_steps=10, num_candidates=32)
    .phases(offline_updates=1_000_000, online_env_steps=1_000_000, learning_starts=5_000)
    # Every 100,000 updates or environment steps.
    .evaluation(evaluation_interval=100, evaluation_duration=50)
    .debugging(seed=0)
)
