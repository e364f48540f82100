"""The documentation: docstrings of what is public, the pages of `make docs`, links between files.

Examples in docstrings run as doctests (`--doctest-modules`); notebooks run under nbval.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

import forge_notebook as forge

ROOT = Path(__file__).parent.parent
HOSTS = ["jupyterlab", "notebook7", "jupyterhub", "vscode", "colab", "marimo", "scripts"]
GUIDES = ["README.md", "CONTRIBUTING.md", *(f"notebooks/hosts/{name}.md" for name in HOSTS)]
NAMES = sorted(set(forge.__all__) - {"__version__"})


def public_methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Ours, also inherited from a class of ours; nothing of a library's."""
    for base in kind.__mro__:
        if base.__module__.startswith("forge_notebook"):
            for name, member in vars(base).items():
                function = member.fget if isinstance(member, property) else member
                function = getattr(function, "__func__", function)
                if not name.startswith("_") and inspect.isfunction(function):
                    yield f"{kind.__name__}.{name}", function


CLASSES = [value for name in NAMES if inspect.isclass(value := getattr(forge, name))]
METHODS = [pytest.param(f, id=name) for kind in CLASSES for name, f in public_methods(kind)]


def parameters(function: Any) -> list[str]:
    """What a caller passes by name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    given = inspect.signature(function).parameters.values()
    return [p.name for p in given if p.kind in named and p.name != "self"]


def mentions(text: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text) is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_says_what_each_of_its_parameters_is(name: str) -> None:
    value = getattr(forge, name)
    text = value.__doc__ or ""
    assert text.strip()
    if value is forge.History:  # made by load(), which takes an id and not a folder
        return
    assert [p for p in parameters(value) if not mentions(text, p)] == []


@pytest.mark.parametrize("function", METHODS)
def test_a_public_method_has_a_docstring_that_tells_its_options(function: Any) -> None:
    text = inspect.getdoc(function) or ""
    assert text.strip()
    # One argument is told by the name and the first line; options are not.
    options = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is not inspect.Parameter.empty
    ]
    assert [name for name in options if not mentions(text, name)] == []


@pytest.mark.parametrize("function", METHODS)
def test_an_error_that_a_method_raises_itself_is_in_its_docstring(function: Any) -> None:
    raised = set(re.findall(r"raise ([A-Z]\w+)\(", inspect.getsource(function)))
    text = inspect.getdoc(function) or ""
    assert {name for name in raised if not mentions(text, name)} == set()


def test_every_setting_of_the_trainer_is_told() -> None:
    text = forge.TrainingConfig.__doc__ or ""
    section = text.partition("Parameters")[2]
    assert [f.name for f in fields(forge.TrainingConfig) if not mentions(section, f.name)] == []


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    # A process of its own: the generator puts stand-ins in the place of frameworks.
    command = [sys.executable, str(ROOT / ".ci" / "docs.py"), str(folder / "docs")]
    made = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert made.returncode == 0, made.stderr
    return folder / "docs"


def test_the_reference_names_every_public_name_and_its_methods(pages: Path) -> None:
    text = (pages / "api" / "forge_notebook.html").read_text()
    for name in forge.__all__:
        assert f'<section id="{name}"' in text
    for kind in CLASSES:
        # A name of another spelling than its class is a link to the class's own page.
        where = text
        if kind.__name__ not in forge.__all__:
            home = f"{kind.__module__.replace('.', '/')}.html"
            assert f'href="{home}#{kind.__name__}"' in text
            where = (pages / "api" / home).read_text()
        for name, _ in public_methods(kind):
            assert f'id="{name}"' in where


def test_the_http_page_has_every_operation_and_every_parameter(pages: Path) -> None:
    text = (pages / "openapi.html").read_text()
    spec = yaml.safe_load((ROOT / "forge_notebook" / "server" / "rest-api.yml").read_text())
    for path, item in spec["paths"].items():
        for verb in set(item) - {"parameters"}:
            assert f"<code>{verb.upper()} {path}</code>" in text
            for parameter in item[verb].get("parameters", []):
                assert f"<code>{parameter.get('name', 'after')}</code>" in text


def test_every_link_of_the_pages_leads_to_a_page_and_nothing_is_loaded_from_elsewhere(
    pages: Path,
) -> None:
    index = (pages / "index.html").read_text()
    for source in [*GUIDES, *(f"notebooks/{p.name}" for p in ROOT.glob("notebooks/*.ipynb"))]:
        assert f'href="{Path(source).with_suffix(".html").as_posix()}"' in index
    for page in pages.rglob("*.html"):
        text = re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.S)
        assert not re.search(r"<(?:script|img|iframe|source)[^>]*src(?:set)?=.https?:", text), page
        assert not re.search(r"<link[^>]*href=.https?:|@import", text), page
        for link in re.findall(r'(?:href|src|srcset)="(?!\w+:|#)([^"#?]+)', text):
            assert (page.parent / unquote(link)).exists(), f"{page}: {link}"


@pytest.mark.parametrize("guide", GUIDES)
def test_every_relative_link_leads_to_a_tracked_file(guide: str) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout.split()
    assert guide in listed
    text = (ROOT / guide).read_text()
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)|(?:src|srcset)=\"(?!\w+:)([^\"]+)\"", text)
    for link in (a or b for a, b in links):
        target = (ROOT / guide).parent / unquote(link)
        assert target.resolve().relative_to(ROOT).as_posix() in listed, link
