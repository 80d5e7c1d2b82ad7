"""The cost of a run among few runs and among many."""

from __future__ import annotations

from dataclasses import replace

from benchmark.measure import Result, Size, run, tell

TASK = "mlp_digits"
# The numbers of standard deviations and seeds, by the number of runs that they make.
GRIDS = {
    1: (1, 1),
    4: (2, 2),
    16: (4, 4),
    42: (14, 3),
    168: (14, 12),
    1000: (50, 20),
    4200: (100, 42),
}
# A factor on the steps of the task; longer training would hide fixed costs.
SCALE = 0.5
# Larger studies take long enough for a single measurement.
REPEATED_UP_TO = 168


def measure(size: Size, repeats: int) -> dict[str, list[Result]]:
    """The seconds of training per run and the peak memory, by the number of runs."""
    found: dict[str, list[Result]] = {str(count): [] for count in GRIDS}
    for repeat in range(repeats):
        for count, (stds, seeds) in GRIDS.items():
            if repeat and count > REPEATED_UP_TO:
                continue
            asked = replace(size, scale=size.scale * SCALE, stds=stds, seeds=seeds)
            told = run("command", ["--memory", *asked.arguments(TASK)])
            told.pop("losses")
            told["per_run"] = told["seconds"] / count
            found[str(count)].append(told)
            tell(
                f"{count} runs: {told['per_run']:.4f} s per run, {told['peak_memory'] / 1e9:.2f} GB"
            )
    return found
