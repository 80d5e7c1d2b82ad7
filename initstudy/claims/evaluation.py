"""From the claims of a study's configuration to findings.

A configuration declares claims as Hydra `_target_`s. Comparisons are paired: the runs of one seed
start from the same draws and see the same data, so that the differences between them are what the
study varies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

import polars as pl

from initstudy.claims import declared
from initstudy.claims.finding import UNDECIDED, Finding
from initstudy.claims.looks import Looks, key_of
from initstudy.claims.many import adjusted, holm
from initstudy.claims.statistics import LEVEL
from initstudy.columns import DIVERGED_STEP, RUN, STEP
from initstudy.config import ConfigError
from initstudy.store import Store, StoreError
from initstudy.store.frames import MODEL, Study, prepare


class Claim(Protocol):
    """A published statement that results can support or refute.

    Example:
        >>> from initstudy.claims import Finding, synthetic_study
        >>> class Learns:
        ...     statement = "Some run learns."
        ...     def check(self, study, facet):
        ...         best = study.runs_of(facet)[study.objective].max()
        ...         return Finding("PASS" if best > 0.5 else "REFUTED", "accuracy", f"best {best}")
        >>> study = synthetic_study({"init.std": [0.1]}, lambda std, seed: {"test/accuracy": 0.9})
        >>> Learns().check(study, "MLP").verdict
        'PASS'
    """

    statement: str

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the statement.

        Args:
            study: The results.
            facet: The part of the study to judge, one of `study.facets`.
        """


@dataclass(frozen=True)
class Result:
    """What a study found of one claim on one facet.

    Attributes:
        claim: The claim's name in the configuration.
        facet: The facet, or for a claim that no facet fits, the pattern of its `where`.
        statement: What is claimed, in words.
        finding: What the results say of it, among all claims of the report.
        paper: What the paper found, if the claim is a paper's.
        alone: The verdict that the claim would have as the only one of its report.
        p: Holm's p-value: the smallest error rate of the report at which the claim is decided.
        without_diverged: The verdict without the runs that diverged; empty if none did.
        worst_rank: The verdict with those runs ranked last; empty if none did.
        declared: When the claim was declared, in words.

    Example:
        >>> from initstudy.claims import Finding
        >>> finding = Finding.undecided("difference of test/accuracy", "needs at least 2 seeds")
        >>> Result("large_hurts", "MLP", "Large is worse.", finding).as_row()["verdict"]
        'UNDECIDED'
    """

    claim: str
    facet: str
    statement: str
    finding: Finding
    paper: str = ""
    alone: str = UNDECIDED
    p: float = field(default=float("nan"))
    without_diverged: str = ""
    worst_rank: str = ""
    declared: str = declared.UNKNOWN

    def as_row(self) -> dict[str, Any]:
        """The result as a flat mapping, for `claims.json`, pages and tables."""
        finding = self.finding
        return {
            "claim": self.claim,
            "facet": self.facet,
            "statement": self.statement,
            "verdict": finding.verdict,
            "estimate": finding.estimate,
            "low": finding.low,
            "high": finding.high,
            "unit": finding.unit,
            "method": finding.method,
            "detail": finding.detail,
            "seeds_needed": finding.seeds_needed,
            "detects": finding.detects,
            "alone": self.alone,
            "holm_p": self.p,
            "without_diverged": self.without_diverged,
            "worst_rank": self.worst_rank,
            "declared": self.declared,
            "paper": self.paper,
        }


def evaluate(
    runs: Any,
    history: Any = None,
    *,
    by: str,
    across: str | None = None,
    claims: Mapping[str, Any],
    **about: Any,
) -> list[Result]:
    """Checks claims on a table of runs, whoever has trained them.

    Args:
        runs: One row per run, as a Polars or pandas frame, or as anything else that
            `polars.DataFrame` takes: `seed`, the studied keys, and what was measured, under the
            names of docs/columns.md. Without a column `run` the rows are numbered, without
            `diverged_step` no run diverged, and without `model._target_` there is one model.
        history: One row per run and step, for claims about what was measured on the way.
        by: The studied key, a column of the runs.
        across: The second studied key, or None.
        claims: For each claim its name, and the claim itself or what a configuration says of it: a
            mapping with `_target_`, its arguments, and perhaps `where` and `paper`.
        about: Further keys of a study's description, such as `tune`, `criterion` and `objective`.

    Returns:
        The results in the order of the claims, at least one per claim. Each verdict is one among
        all of them, by Holm's correction.

    Raises:
        ValueError: The runs lack a column.
        StoreError: A claim cannot be built.

    Example:
        >>> from initstudy.claims import Better
        >>> rows = [
        ...     {"init": init, "seed": seed, "test/accuracy": base + 0.01 * seed}
        ...     for init, base in (("he", 0.9), ("xavier", 0.6))
        ...     for seed in range(6)
        ... ]
        >>> (result,) = evaluate(rows, by="init", claims={"a": Better("x", "he", "xavier")})
        >>> result.finding.verdict, round(result.finding.estimate, 2)
        ('PASS', 0.3)
    """
    table = _frame(runs)
    for name in ("seed", by, *([across] if across else [])):
        if name not in table.columns:
            raise ValueError(f"runs: has no column {name}; it has {', '.join(table.columns)}")
    if RUN.name not in table.columns:
        table = table.with_row_index(RUN.name).with_columns(pl.col(RUN.name).cast(pl.String))
    for name, value in ((MODEL, "models.model"), (DIVERGED_STEP.name, None)):
        if name not in table.columns:
            table = table.with_columns(pl.lit(value).alias(name))
    steps = (
        table.select(RUN.name, pl.lit(0).alias(STEP.name)) if history is None else _frame(history)
    )
    return evaluate_study(
        prepare(Store(table, steps, {"by": by, "across": across, **about})), claims
    )


def evaluate_study(study: Study, claims: Mapping[str, Any] | None = None) -> list[Result]:
    """Checks every claim of a study, on every facet or on those that its `where` is a pattern for.

    Args:
        study: The study.
        claims: The claims; those of the study's own description by default.

    Returns:
        The results in the order of the claims, at least one per claim.

    Raises:
        StoreError: A claim cannot be built, such as one of a user's module that is not here.

    Example:
        >>> from dataclasses import replace
        >>> from initstudy.claims import synthetic_study
        >>> grid = {"init": ["he", "zeros"]}
        >>> study = synthetic_study(grid, lambda init, seed: {"test/accuracy": 0.1})
        >>> at_chance = {"_target_": "initstudy.claims.AtMost", "choice": "zeros", "limit": 0.12}
        >>> claims = {"zeros_fail": at_chance | {"statement": "Zeros stay at chance."}}
        >>> (result,) = evaluate_study(replace(study, about={"claims": claims}))
        >>> result.claim, result.finding.verdict
        ('zeros_fail', 'PASS')
    """
    stated = study.about.get("claims", {}) if claims is None else claims
    pairs = _pairs(study, stated)
    looks = Looks.recorded(study.about)
    results = _judged(study, pairs, LEVEL) if looks is None else _at_looks(study, pairs, looks)
    return [
        replace(result, declared=declared.said(study.about, result.claim, stated[result.claim]))
        for result in results
    ]


@dataclass(frozen=True)
class Pair:
    """A claim and one facet that it is about, or None if it fits no facet."""

    name: str
    claim: Claim
    facet: str | None
    where: str
    paper: str

    @property
    def key(self) -> str:
        """What names the pair in the study's description."""
        return key_of(self.name, self.facet or self.where)


def at_look(study: Study, seeds: int, level: float, is_open: Callable[[str], bool]) -> list[Result]:
    """The results of a study's first seeds, with an error rate of their own.

    Args:
        study: The study.
        seeds: How many seeds count.
        level: The two-sided error rate of all claims together.
        is_open: Whether a claim on a facet, by its key, was undecided before this look.
    """
    pairs = _pairs(study, study.about.get("claims", {}))
    return _judged(first_seeds(study, seeds), [p for p in pairs if is_open(p.key)], level)


def first_seeds(study: Study, seeds: int) -> Study:
    """The runs of a study whose seed lies below a number, and their history."""
    kept = study.runs.filter(pl.col("seed") < seeds)
    history = study.history.join(kept.select(RUN.name), on=RUN.name, how="semi")
    return replace(study, runs=kept, history=history)


def _at_looks(study: Study, pairs: list[Pair], looks: Looks) -> list[Result]:
    """The results as they stood at the looks at which the claims were decided."""
    found: dict[str, Result] = {}
    for seeds, level in looks.taken:
        open_pairs = [pair for pair in pairs if pair.key not in found]
        last = seeds == looks.taken[-1][0]
        here = _judged(first_seeds(study, seeds), open_pairs, level)
        for pair, result in zip(open_pairs, here, strict=True):
            if last or looks.decided.get(pair.key) == seeds:
                found[pair.key] = result
    return [found[pair.key] for pair in pairs]


def _judged(study: Study, pairs: list[Pair], level: float) -> list[Result]:
    """The results of claims that share an error rate."""
    findings = [_found(study, pair) for pair in pairs]
    corrected, values = holm(findings, level), adjusted(findings)
    diverged = {f for f in study.facets if study.runs_of(f)["diverged"].any()}
    without = study.without_diverged() if diverged else study
    ranked = replace(study, diverged_as="worst")
    results = []
    for pair, alone, finding, p in zip(pairs, findings, corrected, values, strict=True):
        other = {"without_diverged": "", "worst_rank": ""}
        if pair.facet in diverged:
            for name, version in (("without_diverged", without), ("worst_rank", ranked)):
                found = _found(version, pair)
                other[name] = found.at(finding.level).verdict
        results.append(
            Result(
                pair.name,
                pair.facet or pair.where,
                pair.claim.statement,
                finding,
                pair.paper,
                alone.at(level).verdict,
                p,
                **other,
            )
        )
    return results


def _found(study: Study, pair: Pair) -> Finding:
    if pair.facet is None:
        return Finding.undecided("–", f"no part of the study is {pair.where}")
    if study.runs_of(pair.facet).is_empty():
        return Finding.undecided("–", "no run is left")
    return pair.claim.check(study, pair.facet)


def _pairs(study: Study, claims: Mapping[str, Any]) -> list[Pair]:
    """Every claim with every facet that it is about."""
    pairs = []
    for name, config in claims.items():
        try:
            claim, where, paper = _built(name, config)
        except ConfigError as error:
            raise StoreError(str(error)) from error
        facets: list[str | None] = [f for f in study.facets if fnmatchcase(f, where)]
        pairs += [Pair(name, claim, facet, where, paper) for facet in facets or [None]]
    return pairs


def check(claims: Mapping[str, Any]) -> None:
    """Builds every claim of a configuration, so that none turns out wrong after the training.

    Raises:
        ConfigError: A claim cannot be built.

    Example:
        >>> check({"a": {"_target_": "initstudy.claims.Nope", "statement": "x"}})
        Traceback (most recent call last):
        ...
        initstudy.config.errors.ConfigError: claims.a: cannot be built: ...
    """
    for name, config in claims.items():
        _built(name, config)


def _built(name: str, config: Any) -> tuple[Claim, str, str]:
    """What `_build` gives, or a line that names the claim."""
    try:
        return _build(config)
    except Exception as error:
        # A user's module may raise anything.
        reason = " ".join(str(error.__cause__ or error).split())
        raise ConfigError(f"claims.{name}: cannot be built: {reason}") from error


def _build(config: Any) -> tuple[Claim, str, str]:
    """A claim, the pattern of the facets that it is about, and what its paper found."""
    from hydra.utils import instantiate

    if callable(getattr(config, "check", None)):
        return config, "*", ""
    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ValueError(f"{config} names no _target_, such as initstudy.claims.WorseThanBest")
    arguments = dict(config)
    where, paper = arguments.pop("where", "*"), arguments.pop("paper", "")
    claim = instantiate(arguments, _convert_="all")
    if not callable(getattr(claim, "check", None)):
        raise ValueError(f"{config['_target_']} is no claim: it has no method check")
    return claim, where, paper


def _frame(table: Any) -> pl.DataFrame:
    if isinstance(table, pl.DataFrame):
        return table
    if type(table).__module__.startswith("pandas."):
        return pl.DataFrame({name: table[name].to_list() for name in table.columns})
    return pl.DataFrame(table, infer_schema_length=None)
