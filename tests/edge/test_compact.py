"""JSON for people is JSON all the same, and short."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge.commands.compact import COLUMNS, compact

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_VALUES)
def test_it_says_the_same(value: Any) -> None:
    assert json.loads(compact(value)) == value


def test_what_fits_on_a_line_is_on_one() -> None:
    hours = [{"begins_at": "2026-11-26T07:00:00Z", "utilisation": None}] * 24
    lines = compact({"state": "ready", "forecast": {"hours": hours}, "none": []}).splitlines()
    assert lines[:3] == ["{", '  "state": "ready",', '  "forecast": {']
    assert len(lines) == 24 + 8
    assert max(map(len, lines)) < COLUMNS
