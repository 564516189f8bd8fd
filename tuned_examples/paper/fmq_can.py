"""FMQ on RoboMimic's can (multi-human), at the paper's settings (Tables 6 and 7).

    rllib data download can
    rllib train file tuned_examples/paper/fmq_can.py --dataset auto --seed 1

Expected success rate (the paper's Table 1: mean ± standard deviation over 5 seeds of 50 episodes,
after a million offline updates on the official data and a million environment steps; not
reproduced with this package yet):

    FMQ             0.96 ± 0.04

The simulator comes with the extra ``robomimic`` (``pip install -e '.[robomimic]'``). A run is
meant for a GPU: the paper's took about 4 hours on an A100 (App. H). Everything not named here is
a default of ``FMQConfig``; see docs/CONFIG.md.
"""

from rllib_fmq import FMQConfig

config = (
    FMQConfig()
    .environment("can-mh")
    .offline_data(dataset="auto")
    .training(eta=1.0, beta=0.3, horizon_length=5, num_candidates=32)
    .phases(offline_updates=1_000_000, online_env_steps=1_000_000, learning_starts=5_000)
    # Every 100,000 updates or environment steps.
    .evaluation(evaluation_interval=100, evaluation_duration=50)
    .debugging(seed=0)
)
