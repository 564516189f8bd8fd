"""MVP on OGBench's cube-double, task 4, at the paper's settings (Tables 6 and 7, App. H).

    rllib data download cube-dbl-t4
    rllib train file tuned_examples/paper/mvp_cube_dbl_t4.py --dataset auto --seed 1

Expected success rate (the paper's Table 1: mean ± standard deviation over 5 seeds of 50 episodes,
after a million offline updates on the official data and a million environment steps; not
reproduced with this package yet):

    MVP             0.98 ± 0.02
    MVP (reported)  0.95 ± 0.04
    MVP + QGBS      0.98 ± 0.02

"MVP" is the paper's own reproduction, "MVP (reported)" what MVP's authors report; "MVP + QGBS" is
the same policy evaluated with ``rllib evaluate CHECKPOINT --selector qgbs``. With the
conditioning axis, which is off by default (D7 in docs/DEPARTURES.md), the network has more inputs
than FMQ's, so FMQ cannot start from this run's offline checkpoint.

A run is meant for a GPU: the paper's took about 4 hours on an A100 (App. H). Everything not named
here is a default of ``MVPConfig``; see docs/CONFIG.md.
"""

from rllib_fmq import MVPConfig

config = (
    MVPConfig()
    .environment("cube-double-play-singletask-task4-v0")
    .offline_data(dataset="auto")
    .training(horizon_length=5, num_candidates=32)
    .training(conditioning_axis=True, conditioning_start=10_000, conditioning_zero_prob=0.5)
    .phases(offline_updates=1_000_000, online_env_steps=1_000_000, learning_starts=5_000)
    # Every 100,000 updates or environment steps.
    .evaluation(evaluation_interval=100, evaluation_duration=50)
    .debugging(seed=0)
)
