"""Success after training per task and method, beside the paper's numbers (Table 1)."""

from __future__ import annotations

from rllib_fmq.analysis.aggregates import Estimate
from rllib_fmq.analysis.paper_scale import PAPER, has_papers_scale, scale_departures
from rllib_fmq.analysis.study_data import Configs, StudyData
from rllib_fmq.analysis.study_searches import SEARCH_NUMBERS, departures
from rllib_fmq.analysis.table_cells import INTERVAL_NOTE, NOTHING, STD_NOTE, ScoreGrid, interval
from rllib_fmq.analysis.table_format import Table
from rllib_fmq.tasks.catalog import find_task, paper_tasks
from rllib_fmq.tasks.paper import PAPER_IQM


def main_table(data: StudyData, configs: Configs) -> Table | None:
    """Success after training per task and method (Table 1).

    The paper's numbers stand beside ours only where the study ran at the paper's scale.

    Args:
        data: Of a study.
        configs: config_id -> full config, which show at which scale it ran.
    Returns:
        None without final evaluations.
    """
    scores = data.final_scores()
    if not scores:
        return None
    tasks = [task for task in data.tasks if any(task in s for s in scores.values())]
    grid = ScoreGrid(tasks, scores, {task: data.short_name(task) for task in tasks})
    rows, (best, second) = grid.rows(), grid.marks()
    columns = ["Task", *scores]
    notes = [STD_NOTE, INTERVAL_NOTE, *grid.notes(), *_search_notes(data)]
    if has_papers_scale(data, configs):
        columns = ["Task", *(name for label in scores for name in (label, f"{label} (paper)"))]
        published = [*map(_published, tasks), _published_iqm(tasks)]
        rows = [
            _beside_the_papers(row, list(scores), paper)
            for row, paper in zip(rows, published, strict=True)
        ]
        best, second = ({(r, 2 * c - 1) for r, c in marked} for marked in (best, second))
        notes.append('Columns "(paper)" hold the numbers that the paper\'s Table 1 prints.')
    else:
        notes.append(_scale_note(data, configs))
    return Table(
        title="Success rate after training",
        caption=(
            f"Mean and standard deviation over seeds of the success rate after {data.final_phase} "
            "training, in the final evaluation, on episodes that training never saw. Best per row "
            "bold, second underlined."
        ),
        columns=tuple(columns),
        rows=tuple(map(tuple, rows)),
        bold=frozenset(best),
        underlined=frozenset(second),
        notes=tuple(notes),
        summary_rows=1,
    )


def _beside_the_papers(row: list[str], labels: list[str], paper: dict[str, str]) -> list[str]:
    """The row's head, then each label's cell and the paper's."""
    cells = [row[0]]
    for label, ours in zip(labels, row[1:], strict=True):
        cells += [ours, paper.get(label, NOTHING)]
    return cells


def _published(task: str) -> dict[str, str]:
    known = find_task(task)
    scores = {} if known is None else known.paper_scores
    return {label: f"{mean:.2f} ± {std:.2f}" for label, (mean, std) in scores.items()}


def _published_iqm(tasks: list[str]) -> dict[str, str]:
    """The paper's last row, which is over all of its tasks."""
    if {task.name for task in paper_tasks()} != set(tasks):
        return {}
    return {label: interval(Estimate(*iqm, num_runs=0)) for label, iqm in PAPER_IQM.items()}


def _search_notes(data: StudyData) -> list[str]:
    """Where QGBS, as a label of the table, has other numbers than the paper's."""
    notes = []
    for label, rows in data.final_rows().items():
        said = {", ".join(departures(row)) for row in rows.to_dict("records")} - {""}
        if said:
            usual = ", ".join(f"{key} {value}" for key, value in SEARCH_NUMBERS.items())
            notes.append(f"{label}: QGBS with {'; '.join(sorted(said))} (the paper's: {usual}).")
    return notes


def _scale_note(data: StudyData, configs: Configs) -> str:
    if data.scale == PAPER:
        return (
            "The study says that it runs at the paper's scale, but: "
            f"{'; '.join(scale_departures(data, configs))}. So the paper's numbers are not shown."
        )
    if data.scale == "reduced":
        said = str(data.info.get("scale_note") or "").strip().rstrip(".")
        return (
            f"Reduced scale{f': {said}' if said else ''}. Numbers at another scale than the "
            "paper's cannot be compared with its numbers, so those are not shown."
        )
    return (
        "The study does not say that it runs at the paper's scale, so the paper's numbers are "
        "not shown."
    )
