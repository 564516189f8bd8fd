"""One run with four GPU learners and 32 env-runners, as a study of one trial.

    rllib study run examples/cluster/one_run.py --dataset-dir /shared/data \\
        -o /shared/results/one-run --ray-address auto

As a study, because its command can be given again after any interruption: it goes on from the last
checkpoint. A batch is 4 x 256 windows; docs/CLUSTER.md says how the learners share GPUs.
"""

from rllib_fmq.studies import Method, Study, StudyTask

study = Study(
    name="one-run",
    tasks=[StudyTask("cube-double-play-singletask-task3-v0")],
    methods=[Method("FMQ", final_selectors=("qgbs",))],
    seeds=(0,),
    config={
        "num_learners": 4,
        "num_gpus_per_learner": 1,
        "num_cpus_per_learner": 2,
        "num_env_runners": 32,
        "evaluation_num_env_runners": 8,
        # All learners on as few machines as possible: gradients travel at every update.
        "placement_strategy": "PACK",
    },
    checkpoint_interval=20,
)
