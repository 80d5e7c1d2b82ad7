"""The benchmark's charts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from benchmark.measure import CONTENDERS, JAX, OURS, PLAIN, median
from initstudy.report.charts.style import GREY, Rows, Spec, chart, titled
from initstudy.report.pictures import with_palette

Record = dict[str, Any]
COLOURS = {"PyTorch scripts": GREY, JAX: "#d95f02", OURS: "#31688e"}
PNG_SCALE = 2
# Where an axis of ratios has its labels.
RATIOS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]


def write(record: Record, folder: Path) -> list[str]:
    """Writes a PNG of every chart that there are numbers for, and returns their names."""
    specs = {"rates": rates(record)} if record["rows"] else {}
    if record["scaling"]:
        specs["scaling"] = scaling(record)
    folder.mkdir(parents=True, exist_ok=True)
    for name, spec in specs.items():
        png = vl_convert.vegalite_to_png(spec, scale=PNG_SCALE)
        (folder / f"{name}.png").write_bytes(with_palette(png))
    return list(specs)


def rates(record: Record) -> Spec:
    """Each repetition of each contender, relative to the plain loop's median."""
    rows: Rows = []
    for row in record["rows"].values():
        plain = median(row["results"][PLAIN])
        for name in CONTENDERS:
            results = row["results"][name]
            middle = median(results) / plain
            for result in results:
                if math.isfinite(middle):
                    rows.append(
                        {
                            "row": row["title"],
                            "contender": name,
                            "group": _group(name),
                            "ratio": result["rate"] / plain,
                            "middle": middle,
                        }
                    )
    x = alt.X(
        "ratio:Q",
        title="times the plain loop, log scale",
        axis=alt.Axis(values=RATIOS),
        scale=alt.Scale(type="log", nice=False, padding=8),
    )
    y = alt.Y("contender:N", title=None, sort=list(CONTENDERS), axis=alt.Axis(labelLimit=240))
    colour = alt.Color(
        "group:N",
        title=None,
        legend=alt.Legend(orient="top"),
        scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
    )
    base = chart(rows).encode(y=y, color=colour).properties(width=240, height=190)
    dots = base.mark_point(filled=True, opacity=0.6, size=40).encode(x=x)
    ticks = base.mark_tick(thickness=3, size=14).encode(x="middle:Q")
    titles = [row["title"] for row in record["rows"].values()]
    facet = alt.Facet("row:N", title=None, sort=titles)
    parts = alt.layer(dots, ticks, data=base.data).facet(facet=facet, columns=2)
    runs = record["runs"]
    return titled(
        record["machine"],
        parts,
        f"How fast {runs} runs train",
        "Dots are repetitions, bars their medians.",
    )


def scaling(record: Record) -> Spec:
    """Seconds of training per run, and memory, against the number of runs."""
    rows = [
        {
            "runs": int(count),
            "seconds": median(results, "per_run"),
            "gigabytes": median(results, "peak_memory") / 1e9,
        }
        for count, results in record["scaling"].items()
    ]
    x = alt.X(
        "runs:Q",
        title="runs, log scale",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(values=[row["runs"] for row in rows], format=","),
    )
    base = chart(rows).mark_line(point={"color": COLOURS[OURS]}, color=COLOURS[OURS]).encode(x=x)
    base = base.properties(width=320, height=240)
    log = alt.Scale(type="log")
    seconds = base.encode(y=alt.Y("seconds:Q", title="seconds of training per run", scale=log))
    memory = base.encode(y=alt.Y("gigabytes:Q", title="peak memory of all processes, GB"))
    return titled(
        record["machine"],
        alt.hconcat(seconds, memory),
        "What a run costs among many",
        "initstudy without probes and W&B, MLP 64-64-64-10 on digits.",
    )


def _group(name: str) -> str:
    if name == JAX:
        return JAX
    return OURS if name.startswith(OURS) else "PyTorch scripts"
