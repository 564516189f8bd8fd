"""QGBS on OGBench's cube-single, task 2, at the paper's settings: FMQ, searched when evaluated.

    rllib train file tuned_examples/qgbs_cube_single.py --dataset FILE

Training is that of ``fmq_cube_single.py``. A trained FMQ or MVP policy needs no run of its own:

    rllib evaluate CHECKPOINT --selector qgbs
"""

from rllib_fmq import QGBSConfig

config = (
    QGBSConfig()
    .environment("cube-single-play-singletask-task2-v0")
    .offline_data(dataset="auto")
    .training(eta=1.0, beta=0.3, horizon_length=5, num_candidates=32)
    # Table 5: 20 actor evaluations a decision.
    .training(search_iters=1, beam_width=4, branches=4, qgbs_eta=0.3, snr=1.5)
    .phases(offline_updates=1_000_000, online_env_steps=1_000_000, learning_starts=5_000)
    # Every 100,000 updates or environment steps.
    .evaluation(evaluation_interval=100, evaluation_duration=50)
    .debugging(seed=0)
)
