"""The index of the reports: one row each, from what the reports say of themselves.

python experiments/index.py               # writes reports/README.md
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

REPORTS = Path("reports")
# In the order of the index: what each is about, and the command that writes it again.
ENTRIES = {
    "std_grid": ("standard deviations, MLP and CNN, digits", "std_grid.py digits"),
    "std_grid_mnist": ("the same on real MNIST", "std_grid.py mnist"),
    "std_lr": ("standard deviation by learning rate, MLP, digits", "std_grid.py lr"),
    "std_depth": ("standard deviation by depth, MLP, digits", "std_grid.py depth"),
    "init_zoo": ("every initializer, thirty-layer MLPs and a CNN, digits", "init_zoo.py digits"),
    "init_zoo_mnist": ("the same on real MNIST", "init_zoo.py mnist"),
    "glorot_2010": ("Glorot & Bengio 2010: normalized initialization", "glorot_2010.py mnist"),
    "he_2015": ("He et al. 2015: 22 and 30 ReLU layers", "he_2015.py mnist"),
    "mishkin_2016": ("Mishkin & Matas 2016: LSUV", "mishkin_2016.py digits"),
    "saxe_2014": ("Saxe et al. 2014: deep linear nets", "saxe_2014.py mnist"),
    "phase_diagram": ("Schoenholz et al. 2017: the phase diagram", "schoenholz_2017.py mnist"),
    "hanin_2018": ("Hanin & Rolnick 2018: how to start training", "hanin_2018.py mnist"),
    "hanin_2018_lengths": ("the same: lengths at initialization", "hanin_2018.py lengths"),
    "le_2015": ("Le et al. 2015: rectified recurrent nets", "le_2015.py irnn"),
    "jozefowicz_2015": ("Jozefowicz et al. 2015: forget gates", "le_2015.py lstm"),
    "xiao_2018": ("Xiao et al. 2018: deep plain CNNs", "xiao_2018.py digits"),
    "width_transfer": ("Yang et al. 2022: muP across widths", "width_transfer.py digits"),
}
HEAD = """# Reports

Written by `experiments/`, committed as they were written; `python experiments/index.py` writes this
page. Each folder holds a README.md with pictures, the page (`index.html`, which opens from disk and
draws every chart itself), and the claims as JSON. A claim that fails stays FAIL.

How fast all of this is, beside plain PyTorch, JAX and others, is in
[throughput](throughput/README.md), which `python experiments/throughput.py` writes.

| report | what | claims | verdicts | runs trained | minutes of training | command |
| --- | --- | --- | --- | --- | --- | --- |
"""


def row(name: str) -> str:
    """One report's row; one that was written before reports had their claims as JSON says less."""
    what, command = ENTRIES[name]
    file = REPORTS / name / "claims.json"
    counted = counts(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else ["–"] * 4
    cells = [f"[{name}]({name}/README.md)", what, *counted, f"`python experiments/{command}`"]
    return "| " + " | ".join(cells) + " |\n"


def counts(found: dict) -> list[str]:
    """Claims, verdicts, runs and minutes of a report."""
    verdicts = Counter(claim["verdict"] for claim in found["claims"])
    shown = ", ".join(f"{verdicts[v]} {v}" for v in ("PASS", "FAIL", "UNDECIDED") if verdicts[v])
    claims = len({claim["claim"] for claim in found["claims"]})
    return [str(claims), shown, str(found["runs"]), f"{found['seconds'] / 60:.1f}"]


if __name__ == "__main__":
    written = [name for name in ENTRIES if (REPORTS / name / "README.md").exists()]
    text = HEAD + "".join(row(name) for name in written)
    (REPORTS / "README.md").write_text(text, encoding="utf-8")
    print(f"{len(written)} reports")
