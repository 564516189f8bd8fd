"""The paper's whole comparison: 12 tasks, QC, MVP, FMQ, with best-of-32 and QGBS, 5 seeds.

    rllib data download cube-dbl-t3        # and so on for each dataset; docs/DATA.md
    rllib study run tuned_examples/studies/paper.py --dataset-dir data --ray-address auto
    rllib study report results/paper

Each of the 420 trials is a phase of the paper's size (1M updates or 1M steps, 4 x 512, N = 32) and
takes hours of a GPU: the paper names 4 hours on an A100 for a run of both phases. Start with
``--only cube-double``. Expected are the paper's numbers, which the report puts beside ours; they
have not been reproduced with this package yet.

MVP is run without the conditioning axis of the paper's appendix H, so that it starts from FMQ's
offline checkpoint, as section 4.2 has it; with it (``tuned_examples/paper/mvp_*.py``) the networks
differ.
"""

from rllib_fmq.studies import Method, Setting, Study, StudyTask
from rllib_fmq.tasks.catalog import paper_tasks

TASKS = {task.short_name: task.name for task in paper_tasks()}
HARD = [
    TASKS[name]
    for name in (
        *("cube-trl-t3", "cube-trl-t4", "hmaze-med-t3"),
        *("hmaze-med-t4", "amaze-gnt-t4", "amaze-gnt-t5"),
    )
]
"""Tasks of the paper's Table 3."""
# (K, B, M) of the paper's Tables 2 and 5; (1, 4, 4) is QGBS's default.
SEARCHES = tuple(
    {"kind": "qgbs", "search_iters": k, "branches": b, "beam_width": m}
    for k, b, m in ((1, 2, 8), (1, 1, 16), (1, 4, 16), (2, 4, 4), (2, 1, 16), (2, 4, 16))
)

study = Study(
    name="paper",
    description="The paper's Tables 1 to 5 and Figures 2 to 4 and 17 to 19.",
    scale="paper",
    scale_note=(
        "MVP is run without the conditioning axis of appendix H, so that all one-step methods "
        "start from the same offline checkpoint (section 4.2)."
    ),
    tasks=[StudyTask(name) for name in TASKS.values()],
    methods=[
        Method("QC"),
        Method("MVP", final_selectors=("qgbs",)),
        Method("FMQ", final_selectors=("qgbs", *SEARCHES)),
    ],
    seeds=range(5),
    config={
        "num_gpus_per_learner": 1,
        "evaluation_interval": 100,
        "evaluation_duration": 50,
    },
    settings=[
        Setting(f"distillation={loss}", {"distillation": loss}, methods=("FMQ",), tasks=HARD)
        for loss in ("lsd", "psd")
    ],
    final_episodes=50,
    checkpoint_interval=50,
)
