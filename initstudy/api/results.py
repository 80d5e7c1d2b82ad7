"""What a study has found, as frames, tables, charts and findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from initstudy import store
from initstudy.claims import Result, evaluate_study
from initstudy.store.frames import Study, prepare

if TYPE_CHECKING:
    import altair as alt

    from initstudy.report.charts.catalogue import Draw

OBJECTIVE = "objective"
# The chart that shows the objective, by its name in the catalogue.
CHART_OF_OBJECTIVE = "accuracy"
SHOWN_IN_NOTEBOOKS = (OBJECTIVE, "activations")


@dataclass(frozen=True)
class Results:
    """The results of a study; everything is read from its directory when it is asked for.

    In a notebook its last line shows the headline, the table of values, the claims and charts.

    Attributes:
        directory: The study's directory.
        failed: Why runs could not be trained, by their labels.
    """

    directory: Path
    failed: Mapping[str, str]

    @property
    def runs(self) -> pl.DataFrame:
        """One row per run: `run`, its configuration under dotted keys, and its final values."""
        return self._stored.runs

    @property
    def history(self) -> pl.DataFrame:
        """One row per run and step: `run`, `step`, and one column per metric (docs/columns.md)."""
        return self._stored.history

    @property
    def claims(self) -> list[Result]:
        """What the results say of each claim, for each model."""
        return evaluate_study(self._prepared)

    @property
    def charts(self) -> list[str]:
        """The names that `chart` takes."""
        return [OBJECTIVE, *self._catalogue]

    def table(self) -> pl.DataFrame:
        """One row per value of the studied key: the objective with its interval, and more.

        The texts are those of the report.
        """
        from initstudy.report.page import words

        written = words.table(self._prepared)
        columns = zip(*written.rows, strict=True) if written.rows else [[] for _ in written.columns]
        return pl.DataFrame(dict(zip(written.columns, map(list, columns), strict=True)))

    def chart(self, name: str = OBJECTIVE, facet: str | None = None) -> alt.Chart:
        """A chart, which a notebook shows and `save("x.svg")` writes.

        Args:
            name: One of `charts`.
            facet: Which of the study's models; the first by default.

        Raises:
            ValueError: There is no such chart or facet, or nothing to show in it.
        """
        import altair as alt

        from initstudy.report.charts.style import NothingToShow

        wanted = CHART_OF_OBJECTIVE if name == OBJECTIVE else name
        if wanted not in self._catalogue:
            raise ValueError(f"chart={name}: choose one of {', '.join(self.charts)}")
        facets = self._prepared.facets
        if facet is not None and facet not in facets:
            raise ValueError(f"facet={facet}: choose one of {'; '.join(facets)}")
        try:
            spec = self._catalogue[wanted](self._prepared, facet or facets[0])
        except NothingToShow as reason:
            raise ValueError(f"chart={name}: {reason}") from None
        return alt.Chart.from_dict(spec)

    def report(self) -> Path:
        """Writes the report and returns the path of its page.

        Raises:
            StoreError: It cannot be written.
        """
        from initstudy.report import write

        return write(self.directory).index

    def __repr__(self) -> str:
        return f"{self.headline}\n{self.table()}"

    def _repr_html_(self) -> str:
        parts = [f"<h3>{escape(self.headline)}</h3>", self.table()._repr_html_()]
        findings = "".join(
            f"<li><b>{escape(result.finding.verdict)}</b> {escape(result.statement)} "
            f"({escape(result.facet)}): {escape(result.finding.detail)}</li>"
            for result in self.claims
        )
        parts += [f"<ul>{findings}</ul>"] if findings else []
        parts += [f"<p>failed: {escape(k)}: {escape(v)}</p>" for k, v in self.failed.items()]
        return "\n".join([*parts, *self._drawn()])

    @property
    def headline(self) -> str:
        """The findings in one line."""
        from initstudy.report.page import words

        return words.headline(self._prepared, self.claims)

    def _drawn(self) -> list[str]:
        """The charts of a notebook, as pictures that need no script and no network."""
        import vl_convert

        drawn = []
        for name in SHOWN_IN_NOTEBOOKS:
            try:
                drawn.append(vl_convert.vegalite_to_svg(self.chart(name).to_dict()))
            except ValueError:
                # A study without probes has no such chart.
                continue
        return drawn

    @cached_property
    def _stored(self) -> store.Store:
        return store.load(self.directory)

    @cached_property
    def _prepared(self) -> Study:
        return prepare(self._stored)

    @property
    def _catalogue(self) -> dict[str, Draw]:
        from initstudy.report.charts.catalogue import charts_of

        return charts_of(self._prepared)


def results(directory: str | Path) -> Results:
    """The results of a study that a command, or `initstudy.study`, has trained.

    Args:
        directory: The study's directory, such as "runs/std_grid".

    Raises:
        StoreError: There is no study, or another version has written it.

    Example:
        >>> import initstudy
        >>> initstudy.results("runs/nowhere")
        Traceback (most recent call last):
        ...
        initstudy.store.errors.StoreError: runs/nowhere: no such directory; ...
    """
    store.load(directory)
    return Results(Path(directory), store.failures(directory))
