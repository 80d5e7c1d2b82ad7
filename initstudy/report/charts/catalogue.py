"""Which charts a study has, by name.

A chart is a function from a study and a facet to a Vega-Lite specification. One that has nothing to
show raises `NothingToShow` with the sentence that stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable

from initstudy.claims.boundary import DEPTH
from initstudy.claims.coordinate_check import LEARNING_RATE, WIDTHS
from initstudy.report.charts.accuracy import accuracy_by_value
from initstudy.report.charts.along_second_key import accuracy_along, learning_time_along
from initstudy.report.charts.coordinate_check import coordinates
from initstudy.report.charts.dead_units import dead_and_saturated
from initstudy.report.charts.fates import fates_by_value
from initstudy.report.charts.histograms import activation_ridgelines, weight_ridgelines
from initstudy.report.charts.length_spread import spread_of_lengths
from initstudy.report.charts.loss import loss_over_steps
from initstudy.report.charts.parallel_coordinates import parallel_coordinates
from initstudy.report.charts.phase_diagram import phase_diagram
from initstudy.report.charts.signal_by_depth import (
    activations_by_depth,
    activations_over_steps,
    gradients_by_depth,
    gradients_over_steps,
)
from initstudy.report.charts.signal_heat import activation_heat, gradient_heat
from initstudy.report.charts.style import Spec
from initstudy.store.frames import Study

Draw = Callable[[Study, str], Spec]

CHARTS: dict[str, Draw] = {
    "loss": loss_over_steps,
    "accuracy": accuracy_by_value,
    "fates": fates_by_value,
    "activations": activations_by_depth,
    "gradients": gradients_by_depth,
    "activation_heat": activation_heat,
    "gradient_heat": gradient_heat,
    "dead_saturated": dead_and_saturated,
    "weight_histograms": weight_ridgelines,
    "activation_histograms": activation_ridgelines,
    "parallel": parallel_coordinates,
}
# What a page shows in place of a picture's chart, because its reader can move through the steps.
ON_PAGES: dict[str, Draw] = {
    "activations": activations_over_steps,
    "gradients": gradients_over_steps,
}
# The charts of studies of two keys, which what one key alone does cannot sum up.
PLANE_CHARTS: dict[str, Draw] = {
    "phase": phase_diagram,
    "accuracy": accuracy_along,
    "learning_time": learning_time_along,
    "coordinates": coordinates,
    "lengths": spread_of_lengths,
}


def charts_of(study: Study) -> dict[str, Draw]:
    """The charts that a study has, by name."""
    if study.across is None:
        return CHARTS
    suits = {
        "phase": study.numeric and study.trained,
        "accuracy": study.trained,
        "learning_time": study.about.get("criterion") is not None,
        "coordinates": (study.by, study.across) == (WIDTHS, LEARNING_RATE),
        "lengths": (study.by, study.across) == (WIDTHS, DEPTH),
    }
    return {name: draw for name, draw in PLANE_CHARTS.items() if suits[name]}
