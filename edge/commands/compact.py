"""JSON for people: what fits on a line is on one."""

import json
from typing import Any

COLUMNS = 100


def compact(value: Any, indent: int = 0, used: int = 0) -> str:
    """`value` as JSON, `used` columns into a line that is indented by `indent`."""
    line = json.dumps(value)
    if indent + used + len(line) < COLUMNS or not value or not isinstance(value, dict | list):
        return line
    inner = indent + 2
    if isinstance(value, dict):
        names = ((f"{json.dumps(name)}: ", one) for name, one in value.items())
        parts = [f"{name}{compact(one, inner, len(name))}" for name, one in names]
        begin, end = "{}"
    else:
        parts = [compact(one, inner) for one in value]
        begin, end = "[]"
    lines = f",\n{' ' * inner}".join(parts)
    return f"{begin}\n{' ' * inner}{lines}\n{' ' * indent}{end}"
