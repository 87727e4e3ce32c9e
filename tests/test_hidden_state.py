"""The hidden state of a market reaches one generator alone, and only where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from marsbench import results, runner
from marsbench.data.reference_market.state import Snapshot
from marsbench.generators.bootstrap import Bootstrap
from marsbench.simulation.contracts import Session, Start
from reference import small_data_set


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference data set of one instrument with 1 + 1 + 2 days."""
    return small_data_set(tmp_path_factory.mktemp("data") / "small", ("REF-B",), 2)


class Curious(Bootstrap):
    """Looks whether somebody left the truth in its starts."""

    name = "curious"
    seen: ClassVar[list[Any]] = []

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        self.seen.extend(start.oracle for start in starts)
        return super().open(starts, rollouts, key=key, control=control)


def run(data: Path, folder: Path, *generators: Any) -> dict[str, results.Result]:
    report = runner.run(
        list(generators), tasks=["realism,minutes=3"], datasets=[str(data)], results=folder, track=False
    )
    made = [results.read(path) for path in report.paths]
    return {r.generator["label"]: r for r in made}


def test_the_oracle_is_scored_and_nobody_else_sees_what_it_sees(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marsbench.generators.reference import Reference

    given: list[Any] = []
    plain = Reference.open

    def watched(self: Any, starts: Sequence[Start], rollouts: int, **options: Any) -> Session:
        given.extend(start.oracle for start in starts)
        return plain(self, starts, rollouts, **options)

    monkeypatch.setattr(Reference, "open", watched)
    made = run(small, tmp_path, "reference", Curious())
    assert {r.status for r in made.values()} == {"done"}, [r.reason for r in made.values()]
    assert len(given) == 2 * 4  # for the frozen ceilings, and for its own result
    assert all(isinstance(truth, Snapshot) for truth in given)
    assert Curious.seen
    assert all(truth is None for truth in Curious.seen)
    assert made["reference"].artifact is None


def test_where_nobody_knows_the_truth_the_oracle_is_not_applicable(market: Path, tmp_path: Path) -> None:
    made = run(market, tmp_path, "reference")["reference"]
    assert made.status == "not-applicable"
    assert made.reason is not None
    assert "which data set toy-market does not have" in made.reason
