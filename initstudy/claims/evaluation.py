"""From the claims of a study's configuration to findings.

A configuration declares claims as Hydra `_target_`s. Every comparison is paired: the runs of one
seed start from the same draws and see the same data, so that the differences between them are what
the study varies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

from initstudy.claims.finding import Finding
from initstudy.config import ConfigError
from initstudy.store import StoreError
from initstudy.store.frames import Study


class Claim(Protocol):
    """A published statement that results can support or refute.

    Example:
        >>> from initstudy.claims import Finding, synthetic_study
        >>> class Learns:
        ...     statement = "Some run learns."
        ...     def check(self, study, facet):
        ...         best = study.runs_of(facet)[study.objective].max()
        ...         return Finding("PASS" if best > 0.5 else "FAIL", "accuracy", f"best {best}")
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
        finding: What the results say of it.
        paper: What the paper found, if the claim is a paper's.

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
            "paper": self.paper,
        }


def evaluate(study: Study) -> list[Result]:
    """Checks every claim of a study, on every facet or on those that its `where` is a pattern for.

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
        >>> (result,) = evaluate(replace(study, about={"claims": claims}))
        >>> result.claim, result.finding.verdict
        ('zeros_fail', 'PASS')
    """
    results = []
    for name, config in study.about.get("claims", {}).items():
        try:
            claim, where, paper = _built(name, config)
        except ConfigError as error:
            raise StoreError(str(error)) from error
        facets = [facet for facet in study.facets if fnmatchcase(facet, where)]
        findings = {facet: claim.check(study, facet) for facet in facets}
        if not findings:
            findings = {where: Finding.undecided("–", f"no part of the study is {where}")}
        for facet, finding in findings.items():
            results.append(Result(name, facet, claim.statement, finding, paper))
    return results


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


def _build(config: Mapping[str, Any]) -> tuple[Claim, str, str]:
    """A claim, the pattern of the facets that it is about, and what its paper found."""
    from hydra.utils import instantiate

    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ValueError(f"{config} names no _target_, such as initstudy.claims.WorseThanBest")
    arguments = dict(config)
    where, paper = arguments.pop("where", "*"), arguments.pop("paper", "")
    claim = instantiate(arguments, _convert_="all")
    if not callable(getattr(claim, "check", None)):
        raise ValueError(f"{config['_target_']} is no claim: it has no method check")
    return claim, where, paper
