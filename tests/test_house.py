"""What holds the house together: import directions, public names, versions, cost of an import."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import forge_notebook

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "forge_notebook"

# package -> the packages of ours that it may import, beside itself
ARROWS = {
    "core": set(),
    "recording": {"core"},
    "trainer": {"core", "recording"},
    "notebook": {"core", "recording"},
    "integrations": {"core", "recording"},
    "server": {"core", "recording"},
}
ROOTS = {"cli", "bench"}  # put things together; nothing imports them
ROOT_MODULES = {"streaming"}  # the same
BARRED = {
    "core": {"torch", "tornado", "jupyter_server", "anywidget", "ipywidgets", "IPython"},
    "recording": {"torch", "tornado", "jupyter_server", "anywidget", "ipywidgets", "IPython"},
    "trainer": {"tornado", "jupyter_server", "anywidget", "ipywidgets", "IPython"},
    "notebook": {"torch", "tornado", "jupyter_server"},
    "integrations": {"torch", "tornado", "jupyter_server"},
    "server": {"torch", "anywidget", "ipywidgets"},
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = [(name, path) for name in ARROWS for path in sorted((PACKAGE / name).rglob("*.py"))]


@pytest.mark.parametrize(
    ("package", "path"), MODULES, ids=[str(p.relative_to(ROOT)) for _, p in MODULES]
)
def test_imports_follow_the_arrows(package: str, path: Path) -> None:
    for name in imports(path):
        top, _, rest = name.partition(".")
        assert top not in BARRED[package], f"{package} must not import {name}"
        if top == "forge_notebook":
            target = rest.split(".")[0]
            if target in ARROWS:
                assert target in ARROWS[package] | {package}, f"{package} must not import {name}"
            assert target not in ROOTS | ROOT_MODULES, f"{package} must not import {name}"


def test_every_package_of_ours_has_its_arrows() -> None:
    packages = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert packages == set(ARROWS) | ROOTS


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("forge_notebook", ["torch", "anywidget", "tornado", "jupyter_server", "plotly", "numpy"]),
        ("forge_notebook.server.app", ["torch", "anywidget"]),
        ("forge_notebook.recording", ["torch", "anywidget", "tornado", "jupyter_server"]),
        ("forge_notebook.notebook.widget", ["torch", "jupyter_server", "tornado.web"]),
        ("forge_notebook.trainer", ["torch"]),
        ("forge_notebook.streaming", ["torch", "jupyter_server", "tornado"]),
    ],
)
def test_an_import_draws_only_what_it_needs(module: str, absent: list[str]) -> None:
    loaded = run(f"import sys, {module}; print([m for m in {absent} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_the_public_names_are_these_and_all_work() -> None:
    assert sorted(forge_notebook.__all__) == [
        "CognateTrainer",
        "History",
        "PerformanceOptimizer",
        "StreamingIntegration",
        "TrainingConfig",
        "TrainingProgressEmitter",
        "__version__",
        "import_runs",
        "load",
        "mirror",
        "session",
        "sessions",
        "track",
        "watch",
        "watch_torch",
    ]
    for name in forge_notebook.__all__:
        assert getattr(forge_notebook, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = forge_notebook.nothing


def test_one_version_everywhere() -> None:
    package = json.loads((ROOT / "js" / "package.json").read_text())
    assert package["version"] == forge_notebook.__version__
    assert f"## {forge_notebook.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_nothing_but_the_agreed_stands_at_the_top() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False
    ).stdout.split()
    top = {name.split("/")[0] for name in tracked}
    allowed = {
        "pyproject.toml", "forge_notebook", "js", "notebooks", "tests", "jupyter-config",
        "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile",
    }  # fmt: skip
    assert {name for name in top if not name.startswith(".")} <= allowed
