"""One line an event, whatever is in it."""

import logging
import re
import sys
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.log import LineFormatter, escape, set_up

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|ERROR) http event=x ")


def line(message: str, *values: object, level: int = logging.INFO, exc: bool = False) -> str:
    info = sys.exc_info() if exc else None
    record = logging.LogRecord("http", level, "file", 1, message, values, info)
    return LineFormatter().format(record)


@given(st.text())
@example("a\nWARNING auth event=auth_fail kind=api_key src=198.51.100.7")
@example("\r\n2026-01-01T00:00:00.000Z WARNING auth event=auth_fail")
@example("\x1b[2J\x85\u2028\u2029\x00\ud800\U000e0001")
def test_case_24_a_value_stays_on_its_line(value: str) -> None:
    made = line("event=x path=%s", value)
    assert len(made.splitlines()) == 1
    assert made.isprintable()
    made.encode("utf-8")
    assert LINE.match(made)


def test_the_form_of_a_line() -> None:
    record = logging.LogRecord("http", logging.INFO, "f", 1, "event=%s n=%d", ("refused", 3), None)
    record.created, record.msecs = 1_800_000_000.25, 250.0
    made = LineFormatter().format(record)
    assert made == "2027-01-15T08:00:00.250Z INFO http event=refused n=3"


def test_a_trace_is_on_the_line_as_well() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        made = line("event=x rid=1", level=logging.ERROR, exc=True)
    assert "\n" not in made
    assert r"ValueError: first\nsecond" in made


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain", "plain"),
        ("é 😀", "é 😀"),
        ("a\nb\rc", r"a\nb\rc"),
        ("\ud800é", r"\ud800é"),
        ("\t\x00", r"\u0009\u0000"),
        ("é\\n", r"é\\n"),
    ],
)
def test_escapes(text: str, escaped: str) -> None:
    assert escape(text) == escaped


@pytest.fixture
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("root_logger")
def test_what_is_set_up_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info")
    logging.getLogger("http").info("event=x n=%d", 1)
    logging.getLogger("http").debug("event=quiet")
    logging.getLogger("asyncio").info("noise")
    out, err = capsys.readouterr()
    assert out == ""
    assert LINE.match(err)
    assert err.count("\n") == 1
    with pytest.raises(ValueError, match="LOUD"):
        set_up("loud")
