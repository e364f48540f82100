"""The pages of `make docs` as plain HTML: guides, notebooks, API reference, HTTP API.

    python .ci/docs.py FOLDER

The pages mirror the repository, so that a link between two files is a link between two pages.
They load nothing from elsewhere.
"""

from __future__ import annotations

import html
import importlib
import importlib.abc
import importlib.machinery
import re
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import markdown2
import nbconvert
import pdoc
import pdoc.render
from docs_openapi import openapi_page
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).parent.parent
SERVER = ROOT / "forge_notebook" / "server"
MODULES = (
    "forge_notebook",
    "forge_notebook.core.alerts",
    "forge_notebook.core.catalog",
    "forge_notebook.core.errors",
    "forge_notebook.core.session",
    "forge_notebook.core.wire",
    "forge_notebook.integrations",
    # Parts of the former that nobody is to import.
    r"!forge_notebook\.integrations\.(control|formats|huggingface_table|show|wandb_run)",
    "forge_notebook.integrations.formats.run",
    "forge_notebook.notebook.magics",
    "forge_notebook.notebook.widget",
    "forge_notebook.recording.commands",
    "forge_notebook.recording.session",
    "forge_notebook.server.app",
    "forge_notebook.trainer.cognate",
    "forge_notebook.trainer.config",
    "forge_notebook.trainer.launch",
    "forge_notebook.trainer.loader",
    "forge_notebook.wandb",
)
GUIDES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
FRAMEWORKS = {"accelerate", "keras", "lightning", "ray", "transformers"}

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1f2328; background: #fff; }
a { color: #0b5cad; } img { max-width: 100%; }
pre, code { font: 0.875rem/1.45 ui-monospace, monospace; background: #f4f5f7; }
pre { padding: 0.75rem; overflow-x: auto; } code { padding: 0.1em 0.25em; }
pre code { padding: 0; }
table { border-collapse: collapse; margin: 0.75rem 0; display: block; overflow-x: auto; }
th, td { border: 1px solid #d4d8dd; padding: 0.25rem 0.6rem; text-align: left;
  vertical-align: top; }
h2 code { font-size: inherit; } .prompt, .anchor-link { display: none; }
"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{style}</style></head>
<body><p><a href="{up}index.html">forge_notebook</a></p>
{body}
</body></html>
"""


class StandIn(ModuleType):
    """A framework that need not be installed: each of its names is an empty class or decorator."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        decorate = {"__new__": lambda kind, *given: given[0] if given else object.__new__(kind)}
        return type(name, (), {"__module__": self.__name__, **decorate})


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Found before any installed framework, so that the pages are the same on every machine."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Say that every module of a framework exists."""
        if name.split(".")[0] not in FRAMEWORKS:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The stand-in itself."""
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def main() -> None:
    """Write all pages anew."""
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    hosts = sorted((ROOT / "notebooks" / "hosts").glob("*.md"))
    reference(folder / "api")
    contents: dict[str, list[tuple[str, str]]] = {"Guides": [], "Notebooks": [], "Hosts": []}
    for source in [ROOT / name for name in GUIDES]:
        contents["Guides"].append(guide(folder, source))
    for source in notebooks:
        contents["Notebooks"].append(notebook(folder, source))
    for source in hosts:
        contents["Hosts"].append(guide(folder, source))
    openapi = openapi_page(SERVER / "rest-api.yml", SERVER / "events.schema.json")
    write(folder, "openapi.html", "HTTP API", openapi)
    contents["HTTP"] = [("openapi.html", "HTTP and WebSocket API")]
    contents["Python"] = [
        (f"api/{page.as_posix()}", ".".join(page.with_suffix("").parts))
        for page in sorted(p.relative_to(folder / "api") for p in folder.glob("api/*/**/*.html"))
    ]
    contents["Python"].insert(0, ("api/forge_notebook.html", "forge_notebook: the public names"))
    shutil.copytree(ROOT / "notebooks" / "images", folder / "notebooks" / "images")
    shutil.copy(ROOT / "LICENSE", folder)
    write(folder, "index.html", "forge_notebook", index(contents))


def reference(folder: Path) -> None:
    """The API reference; a name that does not resolve is an error, not a warning."""
    sys.path.insert(0, str(ROOT))
    sys.meta_path.insert(0, StandIns())
    package = importlib.import_module("forge_notebook")
    for name in package.__all__:  # lazy: pdoc takes what is in the module's namespace
        getattr(package, name)
    pdoc.render.configure(docformat="numpy", show_source=False, footer_text=package.__version__)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        # A type of a library that is imported for type checkers only is shown as it is written.
        warnings.filterwarnings("ignore", "Error parsing type annotation")
        pdoc.pdoc(*MODULES, output_directory=folder)


def guide(folder: Path, source: Path) -> tuple[str, str]:
    """A Markdown file as a page; its address and title."""
    extras = ["tables", "fenced-code-blocks", "header-ids", "cuddled-lists"]
    body = markdown2.markdown(source.read_text(encoding="utf-8"), extras=extras)
    return page_of(folder, source, str(body))


def notebook(folder: Path, source: Path) -> tuple[str, str]:
    """A notebook with its outputs as a page; its address and title."""
    body, _ = nbconvert.HTMLExporter(template_name="basic").from_filename(str(source))
    return page_of(folder, source, body)


def page_of(folder: Path, source: Path, body: str) -> tuple[str, str]:
    """Write what a file became at the file's own place."""
    heading = re.search(r"<h1[^>]*>(.*?)</h1>", body, re.S)
    if heading is None:
        raise ValueError(f"{source} has no title")
    title = html.unescape(re.sub(r"<a .*?</a>|<.*?>", "", heading.group(1), flags=re.S))
    path = source.relative_to(ROOT).with_suffix(".html").as_posix()
    # Links between files of the repository become links between their pages.
    body = re.sub(r'href="(?!\w+:)([^"#]+)\.(?:md|ipynb)(#[^"]*)?"', r'href="\1.html\2"', body)
    write(folder, path, title, body)
    return path, title


def index(contents: dict[str, list[tuple[str, str]]]) -> str:
    """The page that leads to all others."""
    parts = ["<h1>forge_notebook</h1>"]
    for section, pages in contents.items():
        links = (f'<li><a href="{path}">{html.escape(title)}</a></li>' for path, title in pages)
        parts.append(f"<h2>{section}</h2>\n<ul>\n" + "\n".join(links) + "\n</ul>")
    return "\n".join(parts)


def write(folder: Path, path: str, title: str, body: str) -> None:
    """One page in the common frame."""
    style = STYLE + HtmlFormatter().get_style_defs([".highlight", ".codehilite"])
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    up = "../" * path.count("/")
    page = PAGE.format(title=html.escape(title), style=style, up=up, body=body)
    target.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
