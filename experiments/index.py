"""Writes `reports/README.md`: one row per report, from its `claims.json`.

python experiments/index.py
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from initstudy.claims import VERDICTS
from studies import STUDIES

REPORTS = Path("reports")
HEAD = """# Reports

`python experiments/reports.py NAME --data PATH` trains a study and writes its report; `all` does so
for every one. A folder holds a README.md with charts, and the claims as JSON. The page with every
chart is not committed, since a code host cannot show it: the command in the README writes it. A
claim that is refuted or undecided stays in its report; [claims](../docs/claims.md) says how
they are decided.

How fast the training is, beside plain PyTorch, JAX and others, is in
[throughput](throughput/README.md), which `python experiments/throughput.py` writes.

| report | what | claims | verdicts | runs trained | minutes of training |
| --- | --- | --- | --- | --- | --- |
"""


EARLIER = """
FAIL stands in reports that were drawn before refuted and undecided claims were told apart; their
studies are to be trained again.
"""


def text() -> str:
    """The index of the reports that exist."""
    written = [name for name in STUDIES if (REPORTS / name / "claims.json").exists()]
    rows = "".join(_row(name) for name in written)
    return HEAD + rows + (EARLIER if " FAIL" in rows else "")


def write() -> None:
    """Writes the index."""
    (REPORTS / "README.md").write_text(text(), encoding="utf-8")


def _row(name: str) -> str:
    found = json.loads((REPORTS / name / "claims.json").read_text(encoding="utf-8"))
    cells = [f"[{name}]({name}/README.md)", STUDIES[name].about, *_counts(found)]
    return "| " + " | ".join(cells) + " |\n"


def _counts(found: dict[str, Any]) -> list[str]:
    """The numbers of claims, verdicts, runs and minutes of a report."""
    verdicts = Counter(claim["verdict"] for claim in found["claims"])
    # What else a report says was written by another version.
    names = [*VERDICTS, *sorted(verdicts.keys() - set(VERDICTS))]
    shown = ", ".join(f"{verdicts[name]} {name}" for name in names)
    claims = len({claim["claim"] for claim in found["claims"]})
    return [str(claims), shown, f"{found['runs']:,}", f"{found['seconds'] / 60:.1f}"]


if __name__ == "__main__":
    write()
