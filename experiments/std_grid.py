"""Which standard deviations train? The W&B article's study, on digits and on real MNIST.

    python experiments/std_grid.py digits      # a minute or two; writes reports/std_grid
    python experiments/std_grid.py mnist       # a quarter of an hour; reports/std_grid_mnist

Trains an MLP and a CNN over 14 standard deviations and 3 seeds each, checks the claims, and writes
the report. Runs that are finished are not trained again. Further arguments go to the command, as in
`python experiments/std_grid.py mnist data.root=PATH`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from initstudy.report import write

SWEEPS = {
    "digits": ("std_grid", ["+sweep=std_grid", "model=mlp,cnn"]),
    "mnist": ("std_grid_mnist", ["+sweep=std_grid_mnist"]),
}


def main(which: str, *overrides: str) -> None:
    name, sweep = SWEEPS[which]
    command = [sys.executable, "-m", "initstudy", *sweep, *overrides]
    subprocess.run(command, check=True)
    report = write(Path("runs") / name, Path("reports") / name)
    for result in report.results:
        print(f"{result.verdict:9} {result.claim} ({result.facet}): {result.detail}")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in SWEEPS:
        sys.exit(__doc__)
    main(*sys.argv[1:])
