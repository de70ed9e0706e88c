#!/usr/bin/env python3
"""Holds the audit lines of a log to their JSON Schema:  ... | tests/harness/audit-lines.py

Says which lines are wrong, and how many there were; none at all is wrong, too. Of JSON Schema only what that file uses is understood.
"""
import json
import pathlib
import sys

SCHEMA = pathlib.Path(__file__).parents[2] / "docs/reference/audit.schema.json"


def violations(schema, line):
    properties = schema["properties"]
    for key in schema["required"]:
        if key not in line:
            yield f"{key} is missing"
    for rule in schema["allOf"]:
        if line.get("devplane.event") != rule["if"]["properties"]["devplane.event"]["const"]:
            continue
        for key in rule["then"]["required"]:
            if key not in line:
                yield f"{key} is missing in this event"
        component = rule["then"].get("properties", {}).get("devplane.component", {}).get("const")
        if component not in (None, line.get("devplane.component")):
            yield f"the component is not {component}"
    for key, value in line.items():
        if key not in properties:
            yield f"{key} is not in the schema"
        elif not isinstance(value, str) or value not in properties[key].get("enum", [value]):
            yield f"{key} is {value!r}"


def main():
    schema = json.loads(SCHEMA.read_text())
    count, wrong = 0, 0
    for text in sys.stdin:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if not isinstance(line, dict) or line.get("target") != "devplane_audit":
            continue
        count += 1
        for problem in violations(schema, line):
            wrong += 1
            print(f"{problem}: {text}", end="")
    print(f"{count} audit lines, {wrong} violations")
    sys.exit(wrong > 0 or count == 0)


main()
