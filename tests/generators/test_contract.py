"""Every built-in session generator passes the contract that third parties are held to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest

from markets import start_at, two_days
from marsbench import registry
from marsbench.market.rules import MINUTE
from marsbench.simulation.contracts import ORACLE, Artifact, Budget, Kind, SessionGenerator, Trained
from marsbench.simulation.rollout import simulate
from marsbench.simulation.validate import validate
from trained import SMALL, parameters, trained

SESSIONS = [
    name
    for name in registry.names("generators")
    if registry.lookup("generators", name).kind == Kind.SESSION
    and name != ORACLE  # which has a test of its own
    and (not issubclass(registry.lookup("generators", name), Trained) or name in SMALL)  # other sizes: the same class
]


MINUTES = dict.fromkeys([*SMALL, "mars-order"], 1.0)
"""Those whose every order is a step of a neural network simulate fewer minutes; others three."""


@pytest.fixture(scope="module", params=SESSIONS)
def generator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SessionGenerator:
    if request.param in SMALL:
        return cast(SessionGenerator, trained(request.param)[0])
    made = registry.generator(request.param, **parameters(request.param))
    assert isinstance(made, SessionGenerator)
    artifact = made.fit([two_days()[0]], tmp_path_factory.mktemp("artifact"), seed=0, budget=Budget())
    made.load(Artifact.read(artifact.folder))
    return made


def test_it_keeps_the_contract(generator: SessionGenerator) -> None:
    test_day = two_days()[1]
    starts = [start_at(test_day, "10:00"), start_at(test_day, "10:20")]
    report = validate(generator, starts, minutes=MINUTES.get(generator.name, 3.0))
    assert report.passed, str(report)


def test_a_start_does_not_depend_on_which_others_run_beside_it(generator: SessionGenerator) -> None:
    starts = [start_at(two_days()[1], t) for t in ("10:00", "10:10", "10:20")]
    horizon = int(min(MINUTES.get(generator.name, 2.0), 2.0) * MINUTE)
    together = simulate(generator, starts, 2, horizon, key=5)
    alone = simulate(generator, starts[1:2], 2, horizon, key=5)
    assert [t.content_hash() for t in together[1]] == [t.content_hash() for t in alone[0]]


def test_it_refuses_an_instrument_that_it_was_not_fitted_on(generator: SessionGenerator) -> None:
    if generator.name == "control-constant":
        assert simulate(generator, [start_at(two_days(1)[1], "10:00")], 1, MINUTE, key=0)[0][0].orders.size > 0
        return
    with pytest.raises(ValueError, match="ZI-B"):
        simulate(generator, [start_at(two_days(1)[1], "10:00")], 1, MINUTE, key=0)


def test_fitting_is_reproducible(generator: SessionGenerator, tmp_path: Path) -> None:
    if generator.name in SMALL:
        one, two = (trained(generator.name, copy=copy)[1].folder for copy in (0, 1))
        contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (one, two)]
        for held in contents:  # how long it took stands in the card, and the seal is a hash of that too
            del held["artifact.json"]
            held["README.md"] = re.sub(rb"\| time \| [\d.,]+ min \|\n", b"", held["README.md"])
        assert contents[0] == contents[1]
        return
    again = registry.generator(generator.name, **parameters(generator.name))
    assert isinstance(again, SessionGenerator)
    one = again.fit([two_days()[0]], tmp_path / "one", seed=0, budget=Budget())
    two = again.fit([two_days()[0]], tmp_path / "two", seed=0, budget=Budget())
    assert one.content_hash == two.content_hash
    assert one.trained_on == ("ZI-A 2024-01-02 09:30:00-11:00:00",)
