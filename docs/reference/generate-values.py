#!/usr/bin/env python3
"""Turns the chart's values.schema.json and values.yaml into docs/reference/values.md.

    docs/reference/generate-values.py           writes the page
    docs/reference/generate-values.py --check   exits 1 when the page, the schema and the values disagree

Needs helm, which reads the YAML (on PATH, or in the directory that HELM_DIR names). Every value must be in the schema with a
description, and everything in the schema must have a default in values.yaml, but for what the entries of lists and maps have that are
empty by default.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "chart" / "devplane"
PAGE = ROOT / "docs" / "reference" / "values.md"
HEAD = """\
# Values of the chart

Everything that `chart/devplane` can be told, with its default. Helm refuses what is not listed here. How to choose them for a
first installation: [Install](../setup/install.md).

<!-- Made by docs/reference/generate-values.py from chart/devplane/values.schema.json and values.yaml. Do not edit. -->
"""


def fail(problem, hint):
    print(f"error: {problem}\nhint: {hint}", file=sys.stderr)
    sys.exit(1)


def values():
    """The chart's defaults, read by helm itself: a chart of one template that prints them as JSON."""
    helm = shutil.which("helm", path=os.pathsep.join([os.environ.get("HELM_DIR", ""), os.environ.get("PATH", "")]))
    if helm is None:
        fail("helm is not on PATH", "install it, or build it: PATH=\"$(deploy/local/hyperkube.sh):$PATH\"")
    with tempfile.TemporaryDirectory() as directory:
        chart = pathlib.Path(directory)
        (chart / "templates").mkdir()
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: values\nversion: 0.0.0\n")
        (chart / "templates" / "values.yaml").write_text("values: {{ .Values | toJson | quote }}\n")
        shutil.copy(CHART / "values.yaml", chart)
        run = subprocess.run([helm, "template", "x", directory], capture_output=True, text=True, check=False)
        if run.returncode != 0:
            fail(f"helm can't read values.yaml: {run.stderr.strip()}", "correct chart/devplane/values.yaml")
        line = next(line for line in run.stdout.splitlines() if line.startswith("values: "))
        return json.loads(json.loads(line.removeprefix("values: ")))


class Reference:
    def __init__(self, schema, defaults):
        self.definitions = schema["definitions"]
        self.problems = []
        self.lines = []
        self.top(schema, defaults)

    def resolve(self, node):
        path = node.get("$ref", "").removeprefix("#/definitions/")
        if not path:
            return node
        found = self.definitions
        for part in path.split("/"):
            found = found[part]
        return {**self.resolve(found), **node}

    def top(self, schema, defaults):
        self.lines += ["", "## Of the release", ""] + self.header()
        groups = []
        for key, node in schema["properties"].items():
            node = self.resolve(node)
            if key == "global":
                continue
            if self.is_group(node, defaults.get(key)):
                groups.append((key, node))
            else:
                self.leaf(key, node, defaults.get(key), key in defaults)
        for key, node in groups:
            self.lines += ["", f"## {key}", "", node["description"], ""] + self.header()
            self.group(key, node, defaults.get(key, {}))
        for key in defaults.keys() - schema["properties"].keys():
            self.problems.append(f"{key} is in values.yaml, but not in the schema")

    def group(self, path, node, defaults):
        properties = node["properties"]
        for key, child in properties.items():
            child = self.resolve(child)
            if "const" in child:  # a key of before, with what to say to who still has it
                continue
            below = f"{path}.{key}"
            if self.is_group(child, defaults.get(key)):
                if not child.get("description"):
                    self.problems.append(f"{below} has no description in the schema")
                self.group(below, child, defaults[key])
            else:
                self.leaf(below, child, defaults.get(key), key in defaults)
        for key in defaults.keys() - properties.keys():
            self.problems.append(f"{path}.{key} is in values.yaml, but not in the schema")

    def leaf(self, path, node, default, there):
        if not there:
            self.problems.append(f"{path} is in the schema, but has no default in values.yaml")
        if not node.get("description"):
            self.problems.append(f"{path} has no description in the schema")
        self.row(path, node, f"`{json.dumps(default, ensure_ascii=False)}`")
        self.entries(path, node)

    def entries(self, path, node):
        """What is below a list, or a map that is empty by default."""
        items = self.resolve(node.get("items", {}))
        if "else" in items:  # a name alone, or
            items = self.resolve(items["else"])
        for prefix, holder in ((path, node), (f"{path}[]", items)):
            for key, child in holder.get("properties", {}).items():
                child = self.resolve(child)
                below = f"{prefix}.{key}"
                if not child.get("description"):
                    self.problems.append(f"{below} has no description in the schema")
                self.row(below, child, "")
                # The settings of a pod are listed once.
                if below != "workspace.classes[].pod":
                    self.entries(below, child)

    def row(self, path, node, default):
        kinds = node.get("type", "list or text" if "items" in node else "map or string")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        kind = " or ".join("list" if kind == "array" else "map" if kind == "object" else kind for kind in kinds)
        cells = (f"`{path}`", kind, default, node.get("description", ""))
        self.lines.append("| " + " | ".join(cell.replace("|", chr(92) + "|") for cell in cells) + " |")

    @staticmethod
    def is_group(node, default):
        return "properties" in node and default != {} and not isinstance(default, list)

    @staticmethod
    def header():
        return ["| value | type | default | meaning |", "|---|---|---|---|"]


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    schema = json.loads((CHART / "values.schema.json").read_text())
    reference = Reference(schema, values())
    if reference.problems:
        fail("; ".join(reference.problems), "make chart/devplane/values.yaml and values.schema.json agree")
    page = HEAD + "\n".join(reference.lines) + "\n"
    if sys.argv[1:] == []:
        PAGE.write_text(page)
        print(f"{PAGE.relative_to(ROOT)}: {len([line for line in page.splitlines() if line.startswith('| `')])} values")
    elif not PAGE.exists() or PAGE.read_text() != page:
        fail(f"{PAGE.relative_to(ROOT)} is not what the schema and the values say", "run docs/reference/generate-values.py and commit the page")


main()
