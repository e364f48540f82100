"""The wheel in a clean environment without Node: everything is enabled by installing it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.package, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_the_wheel_enables_everything_without_node(tmp_path: Path) -> None:
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path / "dist"),
        str(ROOT),
    )  # fmt: skip
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("static/widget.js", "static/plotly.mjs", "static/dashboard.html", "py.typed"):
        assert f"forge_notebook/{wanted}" in names
    assert sum(name.endswith("install.json") for name in names) == 1
    assert len([n for n in names if "labextension" in n and n.endswith("package.json")]) == 1
    assert not [n for n in names if "node_modules" in n or n.startswith("tests")]

    run(sys.executable, "-m", "venv", str(tmp_path / "clean"))
    bin_ = tmp_path / "clean" / "bin"
    path = f"{bin_}{os.pathsep}/usr/bin-without-node"
    run(str(bin_ / "pip"), "install", "-q", str(wheel), "jupyterlab>=4.2,<5")
    home = {"HOME": str(tmp_path), "PATH": path, "JUPYTER_PREFER_ENV_PATH": "1"}
    server = run(str(bin_ / "jupyter-server"), "extension", "list", **home)
    assert "forge_notebook" in server
    assert "OK" in next(x for x in server.splitlines() if "forge_notebook 0" in x)
    lab = run(str(bin_ / "jupyter-labextension"), "list", **home)
    line = next(x for x in lab.splitlines() if "forge-notebook" in x)
    assert "enabled" in line
    assert "OK" in line
    listed = run(str(bin_ / "forge-notebook"), "sessions", "--json", **home)
    assert json.loads(listed) == []
