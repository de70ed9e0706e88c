#!/usr/bin/env python3
"""Holds the audit lines of a log to their JSON Schema:  ... | tests/harness/audit-lines.py

Says which lines are wrong, and how many there were; none at all is wrong, too. Takes the package jsonschema.
"""
import json
import pathlib
import sys

from jsonschema.validators import validator_for

SCHEMA = pathlib.Path(__file__).parents[2] / "docs/reference/audit.schema.json"


def audit_lines(log):
    for text in log:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("target") == "devplane_audit":
            yield line


def main():
    schema = json.loads(SCHEMA.read_text())
    kind = validator_for(schema)
    kind.check_schema(schema)
    validator = kind(schema)
    count, wrong = 0, 0
    for line in audit_lines(sys.stdin):
        count += 1
        for error in validator.iter_errors(line):
            wrong += 1
            print(f"{error.message}: {json.dumps(line)}")
    print(f"{count} audit lines, {wrong} violations")
    sys.exit(wrong > 0 or count == 0)


main()
