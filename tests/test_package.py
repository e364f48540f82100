"""The sdist, the wheel built from it, and that wheel in a clean environment without Node: it
enables everything by being installed, and all of it works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
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
    # First the sdist, then the wheel from what is in it. Without npm on the PATH: both are built.
    path = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep)
        if shutil.which("npm", path=folder) is None
    )  # fmt: skip
    run(sys.executable, "-m", "build", "-o", str(tmp_path / "dist"), str(ROOT), PATH=path)
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        assert not [n for n in packed.getnames() if "node_modules" in n]
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
    checked = json.loads(run(str(bin_ / "forge-notebook"), "check", "--json", **home))
    assert [(what, found) for what, found in checked.items() if not found["ok"]] == []
    assert len(checked) >= 8
