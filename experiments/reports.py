"""Trains the studies of `studies.py` and writes their reports, one study after the other.

    python experiments/reports.py                          # lists the studies
    python experiments/reports.py std_grid he_2015 --data PATH
    python experiments/reports.py all --data PATH          # every committed report
    python experiments/reports.py all --draw               # draws again what is trained
    python experiments/reports.py all --reduced            # some seconds per study

PATH is the folder of torchvision's MNIST. A study is `python -m initstudy +sweep=NAME …` in a
process of its own, with its store in `runs/NAME`. The same command continues where it was stopped:
runs that are finished are not trained again. The last line of a study says how long it took, and
`runs/reports.jsonl` keeps a record of all of them. A study that fails does not stop the others.

A report is a README.md, its charts and claims.json. The page with every chart is not committed: the
command in the README writes it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import index
from initstudy import report
from studies import REDUCED, STUDIES

REPORTS, RUNS = Path("reports"), Path("runs")
LOG = RUNS / "reports.jsonl"
# Heat maps repeat the charts of the layers, and parallel coordinates that of the accuracy.
ONLY_ON_PAGE = ("activation_heat", "gradient_heat", "parallel")
# What stands in a report in place of a folder of the machine that trained it.
ANYWHERE = "PATH"


def main() -> int:
    given = arguments()
    names = [name for name in STUDIES if STUDIES[name].committed]
    if not given.names:
        print("\n".join(f"{name:20} {study.about}" for name, study in STUDIES.items()))
        return 0
    if given.names != ["all"]:
        names = given.names
    failed = []
    for name in names:
        study = f"{name}_reduced" if given.reduced else name
        begun = time.monotonic()
        code = 0 if given.draw else train(command(name, given.data, given.reduced))
        if code == 0:
            write(study, given.data)
        else:
            failed.append(name)
        log(study, time.monotonic() - begun, code)
    index.write()
    if failed:
        print(f"{len(failed)} of {len(names)} studies failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="studies, or `all`")
    parser.add_argument("--data", help="the folder of torchvision's MNIST")
    parser.add_argument("--draw", action="store_true", help="draw from the stores, train nothing")
    parser.add_argument("--reduced", action="store_true", help="a handful of runs of a few steps")
    given = parser.parse_args()
    unknown = set(given.names) - set(STUDIES)
    if given.names != ["all"] and unknown:
        parser.error(f"no such study: {', '.join(sorted(unknown))}")
    return given


def command(name: str, data: str | None = None, reduced: bool = False) -> list[str]:
    """The arguments of `python -m initstudy` that train a study.

    Args:
        name: The name of the study in `STUDIES`.
        data: The folder of torchvision's MNIST; by default the one that the configuration names.
        reduced: Whether to train a handful of runs of a few steps instead, under another name.
    """
    study = STUDIES[name]
    given = [f"+sweep={name}", *study.overrides]
    if reduced:
        return [*given, *REDUCED, *study.reduced, "tracking=off", f"name={name}_reduced"]
    root = [f"data.root={data}"] if study.mnist and data else []
    return [*given, *root, "tracking=off"]


def train(overrides: Sequence[str]) -> int:
    """Trains what is missing of a study, in a process of its own; returns its exit code."""
    # A study records its command as it was given, and a report should name no interpreter's folder.
    command = ["python", "-m", "initstudy", *overrides]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    print(*command, flush=True)
    return subprocess.run(command, check=False, env=os.environ | {"PATH": path}).returncode


def write(name: str, data: str | None = None) -> Path:
    """Draws a report from the store of its study, and returns its folder.

    Args:
        name: The name of the study, a folder in `runs/`.
        data: The folder of the data. The report says `PATH` instead.
    """
    folder = REPORTS / name
    report.write(RUNS / name, folder, formats=["markdown"], only_on_page=ONLY_ON_PAGE)
    for drawing in (folder / "charts").glob("*.svg"):
        drawing.unlink()
    for file in (folder / "README.md", folder / "claims.json"):
        text = file.read_text(encoding="utf-8")
        if data:
            file.write_text(text.replace(data, ANYWHERE), encoding="utf-8")
    return folder


def log(name: str, seconds: float, code: int) -> None:
    """Adds one line to the record of what was trained, and prints it."""
    LOG.parent.mkdir(exist_ok=True)
    ended = time.strftime("%Y-%m-%d %H:%M:%S")
    line = json.dumps({"study": name, "seconds": round(seconds, 1), "code": code, "ended": ended})
    with LOG.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(f"{name}: {seconds:.0f} s, exit code {code}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
