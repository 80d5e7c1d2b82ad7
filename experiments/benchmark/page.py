"""The benchmark's page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark import charts, verdicts
from benchmark.measure import CONTENDERS, JAX, MACHINE, OURS, PLAIN, TOLERANCE, Result, median
from benchmark.verdicts import Verdict, percent, times

Record = dict[str, Any]

MEASURED = """\
What is measured: {runs} runs ({stds} standard deviations between {lowest:g} and {highest:g}, where
none diverges, by {seeds} seeds), SGD with momentum {momentum:g}, float32. Every contender is a
process of its own, starts from the same initial weights and trains on the same batches; each
repetition runs all of them in turn, and initstudy with and without basic probes and W&B twice,
since they differ by less than a machine does from minute to minute. Timed is training alone, as
steps of one run a second over all runs: building the models and drawing their weights, all steps,
the work between runs, evaluations on the test set (of MNIST its first {tests} images); no process
start, imports or compilation. initstudy's numbers are those that the command prints, which hold the
reading of the data as well; it also records the training accuracy and looks at every step for
divergence, which no other does. "same losses": the largest relative distance of a run's final
training loss from the plain loop's; a contender beyond {tolerance:.0%} has not done the same work,
and is marked.

- plain loop: one run after another, data in memory, `torch.optim.SGD`, as many threads as a short
  trial finds fastest. DataLoader: the same, fed an example at a time. Hydra -m: the same as a Hydra
  application, basic launcher. joblib: the same in one process per core, with one thread each.
- JAX: `vmap` over packs, `lax.scan` over steps, jitted, state donated, data gathered on the device,
  the size of a pack by a short trial; compiled before the clock starts.
- GEMM peak: the fastest of ten float32 products of large matrices on all threads, in turn with the
  contenders. The fraction of it counts the floating point operations of steps and evaluations.
"""


def verdicts_of(record: Record) -> list[Verdict]:
    """The verdicts on all targets that were measured."""
    found: list[Verdict] = []
    for task, row in record["rows"].items():
        found += verdicts.of_row(task, row["title"], row["results"], of_peak(row, OURS))
    if record["whole"]:
        found.append(verdicts.of_whole(record["whole"]["results"]))
    if record["scaling"]:
        found.append(verdicts.of_scaling(record["scaling"]))
    return found


def of_peak(row: Record, name: str) -> float:
    """The fraction of the machine's peak that a contender reaches."""
    return verdicts.fraction_of_peak(row["results"], name, row["member_steps"], row["runs"])


def summary(record: Record) -> tuple[list[str], list[list[str]]]:
    """The summary: each contender's median rate on every row, and over the plain loop."""
    rows = record["rows"].values()
    lines = []
    for name in CONTENDERS:
        cells = [
            f"{_rate(row['results'][name])} ({times(verdicts.ratio(row['results'], name, PLAIN))})"
            for row in rows
        ]
        lines.append([name, *cells])
    return ["member-steps/s (times the plain loop)", *(row["title"] for row in rows)], lines


def detail(row: Record) -> tuple[list[str], list[list[str]]]:
    """The table of one row: every repetition of each contender."""
    results = row["results"]
    lines = []
    for name in CONTENDERS:
        distance = max((r["apart"] for r in results[name] if "apart" in r), default=math.nan)
        same = f"{distance:.1e}" if distance <= TOLERANCE else f"**{distance:.1e}, other work**"
        lines.append(
            [
                name,
                ", ".join(f"{r['rate']:,.0f}" for r in results[name] if "rate" in r),
                _rate(results[name]),
                times(verdicts.ratio(results, name, PLAIN)),
                times(verdicts.ratio(results, name, JAX)),
                percent(of_peak(row, name)),
                percent(verdicts.overhead(results, name)) if name.startswith(f"{OURS},") else "",
                same,
                f"{median(results[name], 'whole') - median(results[name], 'seconds'):.1f}",
            ]
        )
    head = [
        "contender",
        "member-steps/s, each repetition",
        "median",
        "over plain",
        "over JAX",
        "of GEMM peak",
        "overhead",
        "same losses",
        "seconds beside training",
    ]
    return head, lines


def write(record: Record, folder: Path) -> None:
    """README.md and its charts."""
    drawn = charts.write(record, folder)
    (folder / "README.md").write_text("\n".join(_parts(record, drawn)), encoding="utf-8")


def _parts(record: Record, drawn: list[str]) -> Iterator[str]:
    yield "# Throughput\n"
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    yield f"Written by `{record['command']}` on {record['machine']}; {versions}.\n"
    yield MEASURED.format(**record["measured"], tolerance=TOLERANCE)
    if record["absent"]:
        yield "\n".join(f"- Left out: {line}" for line in record["absent"]) + "\n"
    found = verdicts_of(record)
    if record["rows"]:
        yield markdown(*summary(record))
    if "rates" in drawn:
        yield "![Rates relative to the plain loop](rates.png)\n"
    if found:
        yield "## Targets\n"
        yield markdown(
            ["what", "target", "reached", "verdict"],
            [[v.what, v.target, v.reached, v.word] for v in found],
        )
    for row in record["rows"].values():
        yield _row(row)
    if record["whole"]:
        yield _whole(record["whole"])
    if record["scaling"]:
        yield _scaling(record["scaling"])


def _row(row: Record) -> str:
    machine = row["results"][MACHINE][0]
    plain, jax = row["results"][PLAIN][0], row["results"][JAX][0]
    packed = (
        f"JAX trains packs of {jax['pack'][0]} by {jax['pack'][1]} runs, compiled in "
        f"{jax['compilation']:.1f} s"
        if "pack" in jax
        else f"JAX is absent: {jax['absent']}"
    )
    said = (
        f"{row['steps']} steps a run, evaluated every {row['eval_every']}; "
        f"{machine['flops_of_a_step']:,} FLOPs a step; GEMM peak "
        f"{median(row['results'][MACHINE], 'peak') / 1e9:,.0f} GFLOP/s with "
        f"{machine['threads']} threads. The plain loop has {plain['threads']}; {packed}. "
        f"initstudy trains {row['results'][OURS][0]['packs']}."
    )
    return f"## {row['title']}\n\n{said}\n\n{markdown(*detail(row))}"


def _whole(whole: Record) -> str:
    results = whole["results"]
    lines = [
        [
            name,
            ", ".join(f"{r['seconds']:.1f}" for r in found),
            f"{median(found, 'seconds'):.1f}",
            times(median(results[PLAIN], "seconds") / median(found, "seconds")),
        ]
        for name, found in results.items()
    ]
    said = (
        f"`+sweep=std_grid seed=0,1,2 epochs={whole['epochs']}` against "
        "`experiments/plain_loop.py`: the same 42 runs, statistics at the same steps and an "
        "offline W&B run each; start-up, and the report of the one, included."
    )
    table = markdown(["42 runs, whole command", "seconds", "median", "times faster"], lines)
    return f"## The whole command\n\n{said}\n\n{table}"


def _scaling(scaling: dict[str, list[Result]]) -> str:
    lines = [
        [
            f"{int(count):,}",
            f"{median(found, 'seconds'):.2f}",
            f"{median(found, 'per_run'):.4f}",
            f"{median(found, 'peak_memory') / 1e9:.2f}",
            f"{median(found, 'whole'):.1f}",
        ]
        for count, found in scaling.items()
    ]
    head = [
        "runs",
        "seconds of training",
        "seconds per run",
        "peak memory, GB",
        "seconds of the command",
    ]
    return (
        "## Many runs\n\nMLP 64-64-64-10 on digits, without probes and W&B.\n\n"
        f"![Cost of a run among many](scaling.png)\n\n{markdown(head, lines)}"
    )


def markdown(head: list[str], lines: list[list[str]]) -> str:
    """A table."""
    rule = ["---"] * len(head)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *lines))


def _rate(results: list[Result]) -> str:
    value = median(results)
    return f"{value:,.0f}" if math.isfinite(value) else "–"
