"""``rllib evaluate``."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_fmq.atomic import replacing
from rllib_fmq.seeds import FINAL_EVALUATION_SEED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rllib_fmq.checkpointing.policy_file import PolicyRecord
    from rllib_fmq.flow.selection import SelectorSettings
    from rllib_fmq.rollout.evaluation import EpisodeOutcome

_SEARCH = "Selector"


class Selector(str, Enum):
    """Names of the selectors."""

    SAMPLE = "sample"
    BEST_OF_N = "best_of_n"
    EULER = "euler"
    QGBS = "qgbs"


def evaluate(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint of FMQ, QGBS, MVP or QC; or a trial or experiment folder, whose "
            "latest checkpoint is taken.",
        ),
    ],
    selector: Annotated[
        Selector | None,
        typer.Option(
            help="How actions are chosen. (default: as in the run's own evaluations)",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    num_candidates: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="N of best_of_n and euler.", rich_help_panel=_SEARCH),
    ] = None,
    euler_steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Steps of euler.", rich_help_panel=_SEARCH),
    ] = None,
    beam_width: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="M of qgbs.", rich_help_panel=_SEARCH)
    ] = None,
    search_iters: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="K of qgbs.", rich_help_panel=_SEARCH)
    ] = None,
    branches: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="B of qgbs.", rich_help_panel=_SEARCH)
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option(
            metavar="X", min=0, help="Radius of qgbs's own step.", rich_help_panel=_SEARCH
        ),
    ] = None,
    snr: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Signal-to-noise ratio of qgbs's renoising.", rich_help_panel=_SEARCH
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(metavar="N", min=1, help="Episodes, exactly.")] = 50,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Episode k starts from seed + k. The default is used neither in training nor in "
            "a run's own evaluations.",
        ),
    ] = FINAL_EVALUATION_SEED,
    num_workers: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Ray processes that share the episodes; 0: none, only this process.",
        ),
    ] = 0,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE.mp4", help="Film the first episode.")
    ] = None,
    strip: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Uniformly spaced frames of the first episode, side by side."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.json", help="Write all outcomes as JSON."),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Let the checkpoint run code, where it is of an older version or names a "
            "module:factory; only if you trust where it comes from.",
        ),
    ] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Tracebacks.")] = 0,
) -> None:
    """Evaluate a checkpoint's policy: success, return, length, planning latency."""
    from rllib_fmq.cli.errors import set_verbosity
    from rllib_fmq.cli.quiet import quiet_loggers

    set_verbosity(verbose)
    _check_files(video, strip, output)
    from rllib_fmq.rollout.checkpoints import (
        check_selector,
        evaluate_checkpoint,
        find_checkpoint,
        load_policy,
    )

    quiet_loggers(verbose)
    path = find_checkpoint(checkpoint)
    module, record = load_policy(path, trust)
    chosen = _selector_settings(
        module.evaluation_selector,
        None if selector is None else selector.value,
        {
            "num_candidates": num_candidates,
            "euler_steps": euler_steps,
            "beam_width": beam_width,
            "search_iters": search_iters,
            "branches": branches,
            "eta": eta,
            "snr": snr,
        },
    )
    check_selector(record, chosen)
    seeds = range(seed, seed + episodes)
    with _Bar(episodes) as bar:
        outcomes = evaluate_checkpoint(path, chosen, seeds, num_workers, bar.advance, trust)
    report = _report(path, record, chosen, outcomes)
    _print_table(report)
    if output is not None:
        content = report | {"outcomes": [_plain(o) for o in outcomes]}
        with replacing(output) as staged:
            staged.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        typer.echo(f"outcomes: {output}")
    if video is not None or strip is not None:
        from rllib_fmq.rollout.video import record_in_subprocess

        record_in_subprocess(
            path,
            video,
            strip=strip,
            selector=chosen,
            seed=seed,
            trust=trust,
            report=lambda line: typer.echo(line if line.startswith("no ") else f"wrote {line}"),
        )


def _check_files(video: Path | None, strip: Path | None, output: Path | None) -> None:
    """Find out before the episodes run, not after."""
    from rllib_fmq.cli.errors import CommandError

    if video is not None and video.suffix.lower() != ".mp4":
        raise CommandError(f"--video {video}: the name must end in .mp4.", exit_code=2)
    if strip is not None and strip.suffix.lower() != ".png":
        raise CommandError(f"--strip {strip}: the name must end in .png.", exit_code=2)
    for option, path in (("--video", video), ("--strip", strip), ("--output", output)):
        if path is not None and path.is_dir():
            raise CommandError(f"{option} {path}: that is a folder; name a file.", exit_code=2)


def _selector_settings(
    trained: SelectorSettings, kind: str | None, given: dict[str, Any]
) -> SelectorSettings:
    """The run's own evaluation selector, changed by what was given."""
    from rllib_fmq.cli.errors import CommandError

    used = {
        "sample": (),
        "best_of_n": ("num_candidates",),
        "euler": ("num_candidates", "euler_steps"),
        "qgbs": ("beam_width", "search_iters", "branches", "eta", "snr"),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    name = kind or trained.kind
    for option in changes:
        if option not in used[name]:
            users = [other for other, options in used.items() if option in options]
            raise CommandError(
                f"--{option.replace('_', '-')} belongs to --selector {' or '.join(users)}, not to "
                f"{name}.",
                exit_code=2,
            )
    fields = dataclasses.asdict(trained) | {"kind": name} | changes
    return type(trained)(**fields)


def _report(
    path: Path,
    record: PolicyRecord,
    selector: SelectorSettings,
    outcomes: Sequence[EpisodeOutcome],
) -> dict[str, Any]:
    from rllib_fmq.analysis.intervals import wilson_interval
    from rllib_fmq.rollout.evaluation import summarise

    report: dict[str, Any] = {
        "checkpoint": str(path),
        "algorithm": record.algorithm,
        "env": str(record.env),
        "selector": dataclasses.asdict(selector),
        "seeds": [outcomes[0].seed, outcomes[-1].seed],
        **summarise(outcomes),
    }
    plans = sorted(1e3 * seconds for o in outcomes for seconds in o.plan_seconds)
    report["planning_latency_ms_median"] = plans[len(plans) // 2]
    report["planning_latency_ms_p95"] = plans[int(0.95 * (len(plans) - 1))]
    reported = [o.success for o in outcomes if o.success is not None]
    if reported:
        report["num_successes"] = sum(reported)
        report["success_interval_95"] = wilson_interval(sum(reported), len(reported))
    return report


def _print_table(report: dict[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("policy", f"{report['algorithm']} on {report['env']}")
    table.add_row("selector", f"{_describe(report['selector'])}, NFE {report['nfe']:.0f}")
    table.add_row(
        "episodes",
        f"{report['num_episodes']:.0f}, seeds {report['seeds'][0]} to {report['seeds'][1]}",
    )
    if "success_rate" in report:
        low, high = report["success_interval_95"]
        table.add_row(
            "success rate", f"{report['success_rate']:.3f}  (95% interval {low:.3f} to {high:.3f})"
        )
    table.add_row("return", f"{report['episode_return_mean']:.2f}")
    table.add_row("length", f"{report['episode_len_mean']:.1f} steps")
    latency = (
        f"{report['planning_latency_ms_median']:.2f} ms a decision (median), 95% within "
        f"{report['planning_latency_ms_p95']:.2f} ms"
    )
    table.add_row("planning", latency)
    Console(soft_wrap=True).print(table)


def _describe(selector: dict[str, Any]) -> str:
    kind = selector["kind"]
    if kind == "best_of_n":
        return f"best_of_n (N={selector['num_candidates']})"
    if kind == "euler":
        return f"euler ({selector['euler_steps']} steps, N={selector['num_candidates']})"
    if kind == "qgbs":
        return (
            f"qgbs (M={selector['beam_width']}, K={selector['search_iters']}, "
            f"B={selector['branches']}, eta={selector['eta']:g}, snr={selector['snr']:g})"
        )
    return str(kind)


def _plain(outcome: EpisodeOutcome) -> dict[str, Any]:
    """One episode, without its hundreds of single latencies."""
    content = dataclasses.asdict(outcome)
    del content["plan_seconds"]
    return content


class _Bar:
    """Progress of the episodes on stderr, where that is a terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("episodes", total=total)
        self._successes = self._done = 0

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, outcome: EpisodeOutcome) -> None:
        """Count one episode."""
        self._done += 1
        self._successes += bool(outcome.success)
        text = "episodes"
        if outcome.success is not None:
            text += f" (success {self._successes}/{self._done})"
        self._progress.update(self._task, advance=1, description=text)
