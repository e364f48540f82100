"""The OpenAPI file and the schema of the messages as one page of tables."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import markdown2
import yaml

VERBS = ("get", "put", "post", "delete")
BOUNDS = {"minimum": "from", "maximum": "to", "minLength": "at least", "maxLength": "at most",
          "minItems": "at least", "maxItems": "at most", "pattern": "matching",
          "default": "default"}  # fmt: skip


def openapi_page(openapi: Path, events: Path) -> str:
    """The body of the page."""
    spec = yaml.safe_load(openapi.read_text(encoding="utf-8"))
    schema = json.loads(events.read_text(encoding="utf-8"))
    parts = [f"<h1>HTTP and WebSocket API {escape(spec['info']['version'])}</h1>",
             str(markdown2.markdown(spec["info"]["description"]))]  # fmt: skip
    for path, item in spec["paths"].items():
        for verb in VERBS:
            if verb in item:
                parts += operation(spec, path, verb, item)
    parts.append("<h2>Answers</h2>")
    parts += schemas("answer", spec["components"]["schemas"])
    parts.append("<h2>Messages (events.schema.json)</h2>")
    parts += schemas("message", schema["$defs"])
    return "\n".join(parts)


def operation(spec: dict[str, Any], path: str, verb: str, item: dict[str, Any]) -> list[str]:
    """One verb of one path: what it takes and what it gives."""
    told = item[verb]
    parts = [f'<h2 id="{told["operationId"]}"><code>{verb.upper()} {escape(path)}</code></h2>',
             f"<p>{escape(told['summary'])}</p>"]  # fmt: skip
    given = [resolve(spec, p) for p in [*item.get("parameters", []), *told.get("parameters", [])]]
    if given:
        rows = [
            [f"<code>{escape(p['name'])}</code>",
             p["in"] + (", required" if p.get("required") else ""),
             kind(p["schema"]), escape(p.get("description", ""))]
            for p in given
        ]  # fmt: skip
        parts.append(table(["parameter", "in", "type", "meaning"], rows))
    if (body := told.get("requestBody")) is not None:
        for media, content in body["content"].items():
            text = f"Body: {media} {body.get('description', '')}"
            parts.append(f"<p>{escape(text)}</p>")
            parts += properties(content.get("schema", {}))
    rows = []
    for status, reply in told["responses"].items():
        reply = resolve(spec, reply)
        found = [f"{escape(m)}: {kind(c['schema'])}" for m, c in reply.get("content", {}).items()]
        rows.append([escape(str(status)), escape(reply["description"]), "<br>".join(found)])
    parts.append(table(["status", "meaning", "content"], rows))
    return parts


def resolve(spec: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """What a reference inside the file stands for."""
    while "$ref" in value:
        found: Any = spec
        for key in value["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        value = found
    return value


def schemas(group: str, named: dict[str, Any]) -> list[str]:
    """Every named schema with its fields."""
    parts = []
    for name, schema in named.items():
        parts.append(f'<h3 id="{group}-{escape(name)}">{escape(name)}</h3>')
        if "description" in schema:
            parts.append(f"<p>{escape(schema['description'])}</p>")
        parts += properties(schema) or [f"<p>{kind(schema)}</p>"]
    return parts


def properties(schema: dict[str, Any]) -> list[str]:
    """The fields of an object; nothing for what is none."""
    fields = schema.get("properties", {})
    required = schema.get("required", [])
    rows = [
        [f"<code>{escape(name)}</code>", kind(field), "yes" if name in required else "no",
         escape(field.get("description", ""))]
        for name, field in fields.items()
    ]  # fmt: skip
    return [table(["field", "type", "always there", "meaning"], rows)] if rows else []


def kind(schema: dict[str, Any]) -> str:
    """A type in words, with links to named ones."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        if name == "events.schema.json":
            return "any message"
        group = "answer" if "components" in schema["$ref"] else "message"
        return f'<a href="#{group}-{escape(name)}">{escape(name)}</a>'
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{escape(json.dumps(v))}</code>" for v in schema["enum"])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(kind(part) for part in schema[word])
    types = schema.get("type", "any value")
    text = " or ".join(types) if isinstance(types, list) else types
    if isinstance(schema.get("items"), dict):
        text += f" of {kind(schema['items'])}"
    bounds = [f"{word} {escape(str(schema[key]))}" for key, word in BOUNDS.items() if key in schema]
    return ", ".join([text, *bounds])


def table(head: list[str], rows: list[list[str]]) -> str:
    """An HTML table; the cells are HTML already."""
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"
