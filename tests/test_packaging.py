"""The wheel holds everything, and works where folders of the same names lie about."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ("generators", "metrics", "tasks")


def declared() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])


def sources() -> list[Path]:
    return [p for top in ("marsbench", *PLUGINS) for p in sorted((ROOT / top).rglob("*.py"))]


def package_of(folder: Path) -> str:
    parts = folder.relative_to(ROOT).parts
    return ".".join(("marsbench", *parts) if parts[0] in PLUGINS else parts)


def test_the_folders_that_hold_code_are_the_declared_packages() -> None:
    assert {package_of(p.parent) for p in sources()} == declared()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for path in sources():
        assert f"{package_of(path.parent).replace('.', '/')}/{path.name}" in inside
    for path in [p for p in (ROOT / "marsbench").rglob("*") if p.suffix in {".json", ".toml", ".html", ".css", ".js"}]:
        assert str(path.relative_to(ROOT)) in inside
    assert "marsbench/py.typed" in inside
    tops = {name.split("/")[0] for name in inside}
    assert tops == {"marsbench", next(t for t in tops if t.endswith(".dist-info"))}


def test_the_wheel_runs_in_a_foreign_folder_with_its_own_metrics_and_tasks(wheel: Path, tmp_path: Path) -> None:
    prefix, work = tmp_path / "prefix", tmp_path / "work"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(prefix), str(wheel)], check=True, capture_output=True)
    for name in PLUGINS:
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text("raise RuntimeError('the wrong package was imported')\n")
    env = {**os.environ, "PYTHONPATH": str(prefix), "MARSBENCH_DATA_HOME": str(tmp_path / "data")}

    def run(*words: str) -> str:
        command = [sys.executable, "-c", "import sys; from marsbench.cli import main; sys.exit(main())", *words]
        done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    show = "import marsbench.metrics, marsbench; print(marsbench.__file__, marsbench.metrics.__file__)"
    where = [sys.executable, "-c", show]
    found = subprocess.run(where, cwd=work, env=env, capture_output=True, text=True, check=True).stdout
    assert found.count(str(prefix)) == 2
    for kind in PLUGINS:
        assert '"name"' in run("list", kind, "--json")
    assert "zero-intelligence" in run("list", "generators")


def _imports(path: Path) -> list[tuple[str, int]]:
    out = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out += [(a.name, node.lineno) for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            out.append((node.module, node.lineno))
    return out


def test_the_core_imports_no_plug_in_and_plug_ins_import_only_the_core() -> None:
    forbidden = tuple(f"marsbench.{name}" for name in PLUGINS)
    for path in sources():
        for module, line in _imports(path):
            where = f"{path.relative_to(ROOT)}:{line} imports {module}"
            assert not module.startswith(forbidden), where
            assert module.split(".")[0] not in PLUGINS, where


def test_no_committed_text_names_a_path_of_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".json", ".html"} and path.exists():
            text = path.read_text()
            for root in ("/home/", "/Users/", "/root/", "/work/"):
                assert root not in text or name == "tests/test_packaging.py", f"{name} contains {root}"
