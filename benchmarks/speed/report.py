"""From the results of a run to Markdown tables, and into docs/PERFORMANCE.md."""

from __future__ import annotations

from pathlib import Path

from benchmarks.marked import write_parts
from benchmarks.speed.results import Results, targets
from benchmarks.speed.timing import Spread

SELECTORS = {
    "sample": "sample",
    "best_of_n": "best-of-32",
    "qgbs": "QGBS (1, 4, 4)",
    "euler": "QC's 10-step Euler, best-of-32",
}


def spread(value: Spread | None, digits: int = 2, unit: str = "", missing: str = "-") -> str:
    """ "median [lower, upper]"."""
    if value is None:
        return missing
    median, lower, upper = (f"{x:.{digits}f}" for x in value)
    return f"{median}{unit} [{lower}, {upper}]"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a line that says so where there are no rows."""
    if not rows:
        return "Not measured in this run."
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine_table(results: Results) -> str:
    """Processor, versions, and how the run was made."""
    data = results.data
    run = data["run"]
    rows = [[name, value] for name, value in data["machine"].items()]
    rows.append(["rounds at most", str(run["rounds"])])
    rows.append(["whole run", f"{run['seconds'] / 60:.0f} minutes"])
    rows.append(["ratios of", {"cpu": "processor time", "wall": "wall time"}[results.clock]])
    if results.waited is not None:
        rows.append(["wall time without a processor", f"{results.waited:.1f} %"])
    rows.append(["load before, after", f"{run['load before']}, {run['load after']}"])
    rows += [[f"note on {name}", text] for name, text in data["notes"].items()]
    return table(["", ""], rows)


def target_table(results: Results) -> str:
    """What had to be shown."""
    rows = [
        [
            target.text,
            f"{target.relation} {target.bound:g}{target.unit}",
            spread(target.measured, 1 if target.unit else 2, target.unit),
            target.verdict,
        ]
        for target in targets(results)
    ]
    return table(["figure", "required", "measured", ""], rows)


def update_table(results: Results) -> str:
    """Rates and shares of the ceiling of every update."""
    rows = []
    no_jax = results.note("jax") or "-"
    for group in (name for name in results.timings if name.startswith("update ")):
        work = sum(results.data["work"][group].values())
        row = [group.removeprefix("update "), f"{work / 1e9:.2f}"]
        for a, missing in (("plain", "-"), ("jax", no_jax), ("eager", "-")):
            row.append(spread(results.ratio(group, a, "rllib_fmq"), missing=missing))
        row.append(spread(results.ratio(group, "plain", "eager")))
        for cell, missing in (("rllib_fmq", "-"), ("eager", "-"), ("plain", "-"), ("jax", no_jax)):
            row.append(spread(results.ratio(group, "ceiling", cell, 100), 0, missing=missing))
        row.append(str(results.timings[group].rounds))
        rows.append(row)
    return table(
        [
            "update",
            "GFLOP",
            "plain : ours",
            "JAX : ours",
            "ours eager : ours",
            "plain : ours eager",
            "ours, % of ceiling",
            "ours eager, %",
            "plain, %",
            "JAX, %",
            "rounds",
        ],
        rows,
    )


def work_table(results: Results) -> str:
    """Operations of every part of an update."""
    rows = []
    for group in (name for name in results.data["work"] if name.startswith("update ")):
        parts = results.data["work"][group]
        whole = sum(parts.values())
        rows += [
            [
                group.removeprefix("update ") if number == 0 else "",
                part,
                f"{1e-9 * value:.3f}",
                f"{100 * value / whole:.1f}",
            ]
            for number, (part, value) in enumerate(parts.items())
        ]
    return table(["update", "part", "GFLOP", "%"], rows)


def decision_table(results: Results) -> str:
    """Times of the selectors, relative to best-of-32."""
    rows = []
    for group in (name for name in results.timings if name.startswith("decision ")):
        _, task, num_obs = group.split()
        for kind, label in SELECTORS.items():
            work = results.data["work"][group][kind]
            rows.append(
                [
                    f"{task}, {num_obs} obs",
                    label,
                    spread(results.ratio(group, kind, "best_of_n")),
                    spread(results.ratio(group, f"plain {kind}", kind)),
                    f"{1e-6 * work['flops']:.1f}",
                    f"{1e-6 * work['bytes']:.1f}",
                    f"{work['flops'] / work['bytes']:.1f}",
                ]
            )
    return table(
        [
            "observations",
            "selector",
            "time / best-of-32",
            "plain : ours",
            "MFLOP",
            "MB of weights read",
            "FLOP a byte",
        ],
        rows,
    )


def replay_table(results: Results) -> str:
    """A batch from the replay against the two plain ways."""
    rows = []
    for other in ("numpy gather", "contiguous"):
        ratio = results.ratio("replay", "replay", other)
        if ratio is not None:
            rows.append([f"replay / {other}", spread(ratio)])
    return table(["time of a batch of 256 windows", "ratio"], rows)


def rllib_table(results: Results) -> str:
    """RLlib's share of an offline update, and what the work consists of."""
    rows = []
    for mode in ("eager", "compiled"):
        shares = results.data["shares"].get(f"learner {mode}")
        if shares is None:
            continue
        work = Spread.of(shares["work"]).median
        each = Spread.of([100 * x / work for x in shares["per_update"]])
        call = Spread.of([100 * x / work for x in shares["per_call"]])
        whole = sum(shares["parts"].values())
        parts = ", ".join(f"{k} {100 * v / whole:.1f}" for k, v in shares["parts"].items())
        rows.append(
            [mode, spread(results.share(f"learner {mode}")), spread(each), spread(call), parts]
        )
    return table(
        [
            "updates",
            "RLlib's share, %",
            "overhead an update, % of its work",
            "overhead a call, % of one update's work",
            "the work, %",
        ],
        rows,
    )


def loop_table(results: Results) -> str:
    """Where the time of an online round goes."""
    rows = []
    for target in ("best-of-32", "one-sample"):
        group = f"loop {target}"
        if group in results.data["shares"]:
            names = ("share", "collect", "sync", "rest")
            rows.append([target, *(spread(results.share(group, n), 1) for n in names)])
    return table(
        ["critic target", "update, %", "collection, %", "weights to the runner, %", "rest, %"],
        rows,
    )


def runner_table(results: Results) -> str:
    """Environment steps through RLlib's env-runner and in a bare loop."""
    ratio = results.ratio("runner", "runner", "bare")
    rows = [] if ratio is None else [["env-runner / bare loop", spread(ratio)]]
    return table(["time of an environment step, planning included", "ratio"], rows)


TABLES = {
    "machine": machine_table,
    "targets": target_table,
    "updates": update_table,
    "work": work_table,
    "decisions": decision_table,
    "replay": replay_table,
    "rllib": rllib_table,
    "loop": loop_table,
    "runner": runner_table,
}


def render(results: Results) -> str:
    """All tables, for a terminal or a file of their own."""
    return "\n\n".join(f"## {name}\n\n{make(results)}" for name, make in TABLES.items())


def write_into(document: Path, results: Results) -> None:
    """Fill in all tables; see ``benchmarks.marked.write_parts``."""
    write_parts(document, {name: make(results) for name, make in TABLES.items()})
