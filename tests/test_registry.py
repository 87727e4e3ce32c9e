"""Plug-ins are found by name; every mistake is named where it is made."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import marsbench
from marsbench import registry
from marsbench.registry import Entry, EvidenceError, Spec, parse, register
from marsbench.simulation.contracts import Kind


def test_built_ins_are_discovered_by_walking_the_packages() -> None:
    assert {"bootstrap", "zero-intelligence"} <= set(registry.names("generators"))
    assert "realism" in registry.names("tasks")
    assert registry.generator("bootstrap").name == "bootstrap"


def test_every_task_resolves_with_its_metrics() -> None:
    for name in registry.names("tasks"):
        task = registry.task(name)
        assert registry.metrics_of(task)


def test_an_unknown_name_lists_the_choices_and_the_nearest_match() -> None:
    with pytest.raises(
        ValueError, match=r"unknown generator 'botstrap'; did you mean 'bootstrap'\? Choices: bootstrap, "
    ):
        registry.generator("botstrap")


def test_an_unknown_parameter_lists_what_is_taken() -> None:
    with pytest.raises(ValueError, match=r"task 'realism,minute=3'.*'minute'.*It takes: minutes"):
        registry.task("realism,minute=3")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("cgan,rounds=two", "rounds takes int, got 'two'"),
        ("cgan,temperature=true", "temperature takes float, got True"),
        ("bootstrap,block_seconds=none", "block_seconds takes float, got None"),
        ("hawkes,events=[1]", r"events takes int, got \[1\]"),
    ],
)
def test_what_is_no_number_where_one_belongs_is_named(spec: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        registry.generator(spec)


def test_a_word_for_a_number_of_a_task_is_named_and_none_is_taken_where_it_may_be() -> None:
    with pytest.raises(ValueError, match="rollouts takes int, got 'two'"):
        registry.task("realism,rollouts=two")
    assert registry.task("realism,most_starts=none").most_starts is None  # type: ignore[attr-defined]


def test_a_duplicate_name_raises_and_names_both() -> None:
    first, second = type("A", (), {}), type("B", (), {})
    with pytest.raises(ValueError, match=r"two plug-ins are named 'x': .*A \(from one\).*B \(from two\)"):
        register([Entry("x", first, "one"), Entry("x", second, "two")])


@pytest.mark.usefixtures("third_party")
def test_third_parties_register_through_entry_points_as_module_or_class() -> None:
    assert registry.lookup("generators", "toy-forecast").kind == Kind.FORECAST
    assert registry.metric("toy-flow", side=1).version == 4
    rows = {row["name"]: row for row in registry.describe("generators")}
    assert rows["toy-walk"]["origin"] == "toy-plugin"
    assert rows["bootstrap"]["origin"] == "marsbench"


@pytest.mark.usefixtures("third_party")
def test_a_metric_that_takes_other_evidence_is_refused_before_anything_runs() -> None:
    with pytest.raises(EvidenceError, match=r"'toy-mismatch' produces OtherEvidence.*'toy-flow' takes TrajectoryPairs"):
        registry.task("toy-mismatch")


def test_a_third_party_that_cannot_be_imported_is_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sad-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: sad\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[marsbench.generators]\nsad = sad_module\n")
    (tmp_path / "sad_module.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.table.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"plug-in 'sad' of sad .* left out: RuntimeError: no licence"):
            assert "bootstrap" in registry.names("generators")
    finally:
        registry.table.cache_clear()


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("bootstrap", Spec("bootstrap", {})),
        ("files:/a,b/c:d", Spec("files", {}, "/a,b/c:d")),
        ("x,n=3,rate=0.5,mode=fast,on=true", Spec("x", {"n": 3, "rate": 0.5, "mode": "fast", "on": True})),
        ("toy,most=none", Spec("toy", {"most": None})),
    ],
)
def test_specifications_are_read_and_written_back(text: str, spec: Spec) -> None:
    assert parse(text) == spec
    assert parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["x,3", "x,a=1,a=2", "x,=4"])
def test_a_wrong_specification_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="parameter"):
        parse(text)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, marsbench, marsbench.cli; print([m for m in ('numpy', 'pandas', 'mlflow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_public_api_exists() -> None:
    import marsbench

    for name in marsbench.__all__:
        assert getattr(marsbench, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        marsbench.nothing  # noqa: B018 - the access is the test


def test_no_public_name_is_hidden_by_a_module_of_the_same_name() -> None:
    """``import marsbench.x`` would replace the function ``marsbench.x`` by the module."""
    modules = {m.name for m in pkgutil.iter_modules(marsbench.__path__)}
    assert not modules & set(marsbench.__all__)
    for name in marsbench.__all__:
        assert getattr(marsbench, name) is not None
