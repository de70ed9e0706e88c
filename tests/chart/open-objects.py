#!/usr/bin/env python3
"""Turns a values.schema.json into the places where it takes keys that it does not know, and exits 1 when there is one.

    tests/chart/open-objects.py chart/devplane/values.schema.json

An object says its keys (`additionalProperties: false`) or what each of its values is. What the Kubernetes API describes better is
the one definition `kubernetesObject`, which says nothing but `type: object`; a place for it says in a description what it is.
"""

import json
import sys

# Open, and why.
REASONS = {
    "/definitions/kubernetesObject": "the Kubernetes API checks it",
    "/properties/global": "Helm's own: a chart that has this one as a part hands it down",
}


def below(node, path):
    """Every schema in `node`, with its place."""
    yield path, node
    for key, child in node.items():
        if key in ("properties", "definitions"):
            for name, schema in child.items():
                yield from below(schema, f"{path}/{key}/{name}")
        elif key in ("allOf", "anyOf", "oneOf"):
            for index, schema in enumerate(child):
                yield from below(schema, f"{path}/{key}/{index}")
        elif isinstance(child, dict):
            yield from below(child, f"{path}/{key}")


def is_object(node):
    kinds = node.get("type", [])
    return "object" in (kinds if isinstance(kinds, list) else [kinds]) or "properties" in node


def problem(path, node):
    if not is_object(node):
        return None
    if path == "/definitions/kubernetesObject":
        return None if node == {"type": "object"} else f"{path} says more than that it is an object"
    rest = node.get("additionalProperties")
    if path in REASONS or rest is False:
        return None
    if isinstance(rest, dict) and rest.keys() & {"$ref", "type"}:
        return None
    return f"{path} takes any key: say additionalProperties: false, or refer to kubernetesObject"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    problems = [told for path, node in below(schema, "") if (told := problem(path, node))]
    print("\n".join(problems))
    sys.exit(bool(problems))


main()
