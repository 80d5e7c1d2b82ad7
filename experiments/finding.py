"""The picture of the README: which standard deviations train, and why.

python -m initstudy +sweep=std_grid
python experiments/finding.py runs/std_grid    # writes docs/pictures/finding.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import vl_convert

from initstudy import store
from initstudy.report.pictures import with_palette

OUT = Path("docs/pictures/finding.png")
MODEL = "initstudy.models.MLP"
GREY, LABELLED = "#666666", 5
TICKS = [1e-6, 1e-3, 1, 1e3, 1e6]
HEIGHT = 300
# Where runs without an accuracy stand, below the axis of accuracies.
BELOW = -0.09
COLOUR = alt.Color(
    "std:Q",
    legend=None,
    scale=alt.Scale(scheme=alt.SchemeParams(name="viridis", extent=[0.0, 0.88]), type="log"),
)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    OUT.write_bytes(with_palette(picture(store.load(sys.argv[1]))))
    print(f"wrote {OUT}")


def picture(study: store.Store) -> bytes:
    """Both panels, as PNG."""
    runs = study.runs.filter(pl.col("model._target_") == MODEL)
    runs = runs.with_columns(std=pl.col("init.std"), diverged=pl.col("diverged_step").is_not_null())
    first = study.history.filter(pl.col("step") == 0).join(runs.select("run", "std"), on="run")
    panels = alt.hconcat(accuracy(runs), signal(first), spacing=40)
    styled = panels.configure(font="Helvetica, Arial, sans-serif").configure_axis(
        labelFontSize=12, titleFontSize=13, titleFontWeight="normal", gridColor="#eeeeee"
    )
    styled = styled.configure_title(fontSize=15, anchor="start", offset=10)
    return vl_convert.vegalite_to_png(styled.configure_view(stroke=None).to_dict(), scale=2)


def accuracy(runs: pl.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """The accuracy of every run over its standard deviation, with the critical one marked."""
    critical = float(runs["theory/critical_std"].drop_nulls()[0])
    shown = runs.with_columns(
        accuracy=pl.when("diverged").then(BELOW).otherwise(pl.col("test/accuracy"))
    ).select("std", "seed", "accuracy", "diverged")
    x = alt.X(
        "std:Q",
        title="standard deviation of the initial weights",
        scale=alt.Scale(type="log", padding=14, nice=False),
        axis=alt.Axis(grid=False, values=[0.001, 0.01, 0.1, 1], format="~g"),
    )
    y = alt.Y(
        "accuracy:Q",
        title="test accuracy",
        scale=alt.Scale(domain=[BELOW * 1.4, 1.04], nice=False),
        axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format="%"),
    )
    base = alt.Chart(shown).encode(x=x, y=y)
    trained = base.transform_filter("!datum.diverged")
    mean = trained.mark_line(color="#bbbbbb", strokeWidth=2).encode(y=alt.Y("mean(accuracy):Q"))
    dots = trained.mark_circle(size=70, opacity=0.9).encode(color=COLOUR)
    crosses = base.transform_filter("datum.diverged").mark_point(
        shape="cross", angle=45, size=80, filled=True, color="black", opacity=0.8
    )
    mark = alt.Chart(pl.DataFrame({"std": [critical]})).encode(x="std:Q")
    rule = mark.mark_rule(strokeDash=[5, 4], color=GREY)
    label = mark.mark_text(
        text=[f"√(2/width) = {critical:.3g}", "signal kept (theory)"],
        align="right",
        dx=-6,
        color=GREY,
        fontSize=12,
    ).encode(y=alt.value(HEIGHT * 0.42))
    notes = pl.DataFrame(
        {
            "std": [0.0009, 0.02, 0.7],
            "text": ["signal fades", "trains", "signal\nexplodes"],
            "accuracy": [0.04, 0.88, 0.36],
        }
    )
    words = (
        alt.Chart(notes)
        .mark_text(fontSize=13, fontStyle="italic", align="left", color="#333333", lineBreak="\n")
        .encode(x="std:Q", y="accuracy:Q", text="text:N")
    )
    lost = alt.Chart(pl.DataFrame({"text": ["× diverged"], "std": [0.45], "accuracy": [BELOW]}))
    lost_label = lost.mark_text(align="right", fontSize=12, color=GREY).encode(
        x="std:Q", y="accuracy:Q", text="text:N"
    )
    layers = alt.layer(mean, rule, label, words, lost_label, dots, crosses)
    return layers.properties(width=430, height=HEIGHT, title="Accuracy after training")


def signal(first: pl.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """How strong the signal is in each layer before the first step, with theory's lines."""
    layers = [
        n.split("/")[1] for n in first.columns if n.startswith("activation/") and n.endswith("/rms")
    ]
    layers = [n for n in layers if first[f"activation/{n}/rms"].is_not_null().any()]
    rows = [
        first.group_by("std").agg(
            pl.lit(name).alias("layer"),
            pl.col(f"activation/{name}/rms").log().mean().exp().alias("rms"),
            pl.col(f"activation/{name}/theory").log().mean().exp().alias("theory"),
        )
        for name in layers
    ]
    shown = pl.concat(rows).sort("std", "layer")
    x = alt.X("layer:N", title="layer", sort=layers, axis=alt.Axis(labelAngle=0, grid=False))
    axis: dict[str, Any] = {
        "title": "rms of the activations",
        "scale": alt.Scale(type="log", nice=False, domain=[1e-9, 1e7]),
        "axis": alt.Axis(values=TICKS, format=","),
    }
    y = alt.Y("rms:Q", **axis)
    base = alt.Chart(shown).encode(x=x, color=COLOUR, detail="std:Q")
    lines = base.mark_line(strokeDash=[5, 3]).encode(y=alt.Y("theory:Q", **axis))
    dots = base.mark_circle(size=55, opacity=1).encode(y=y)
    stds = shown["std"].unique().sort().to_list()
    some = {*stds[::LABELLED], stds[-1]}
    ends = shown.filter((pl.col("layer") == layers[-1]) & pl.col("std").is_in(list(some)))
    ends = ends.with_columns(text=pl.col("std").map_elements(lambda v: f"std {v:.3g}", pl.String))
    words = (
        alt.Chart(ends)
        .mark_text(align="left", dx=8, fontSize=12)
        .encode(x=x, y=y, text="text:N", color=COLOUR)
    )
    return alt.layer(lines, dots, words).properties(
        width=330, height=HEIGHT, title="Signal through the layers, before training"
    )


if __name__ == "__main__":
    main()
