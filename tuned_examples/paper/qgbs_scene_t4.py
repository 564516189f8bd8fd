"""QGBS on OGBench's scene, task 4, at the paper's settings (Tables 5 to 7).

    rllib data download scene-t4
    rllib train file tuned_examples/paper/qgbs_scene_t4.py --dataset auto --seed 1

Expected success rate (the paper's Table 1: mean ± standard deviation over 5 seeds of 50 episodes,
after a million offline updates on the official data and a million environment steps; not
reproduced with this package yet):

    FMQ + QGBS      0.99 ± 0.01

Training is that of ``fmq_scene_t4.py``; only evaluation searches. A trained FMQ policy needs no
run of its own: ``rllib evaluate CHECKPOINT --selector qgbs``.

A run is meant for a GPU: the paper's took about 4 hours on an A100 (App. H). Everything not named
here is a default of ``QGBSConfig``; see docs/CONFIG.md.
"""

from rllib_fmq import QGBSConfig

config = (
    QGBSConfig()
    .environment("scene-play-singletask-task4-v0")
    .offline_data(dataset="auto")
    .training(eta=1.0, beta=0.3, horizon_length=5, num_candidates=32)
    # Table 5: 20 actor evaluations a decision.
    .training(search_iters=1, beam_width=4, branches=4, qgbs_eta=0.3, snr=1.5)
    .phases(offline_updates=1_000_000, online_env_steps=1_000_000, learning_starts=5_000)
    # Every 100,000 updates or environment steps.
    .evaluation(evaluation_interval=100, evaluation_duration=50)
    .debugging(seed=0)
)
