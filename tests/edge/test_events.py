"""Server-sent events: how bytes were cut into chunks, and how lines end, changes nothing."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.dialects import events
from edge.dialects.events import DONE, EVENT_BYTES_MAX, Event, EventReader, write
from edge.errors import UpstreamError

LINES = st.lists(
    st.sampled_from(["data: {}", "data:x", "data:  two", "data", "data: é\u2028😀", "data: [DONE]"])
    | st.sampled_from(["event: e", "id: 7", "retry: 1", ": ping", "nonsense", "DATA: x"])
    | st.just(""),
    max_size=20,
)
ENDS = st.sampled_from([b"\r", b"\n", b"\r\n"])


def read(*chunks: bytes) -> list[Event] | str:
    reader = EventReader()
    try:
        return [event for chunk in chunks for event in reader.feed(chunk)]
    except UpstreamError as error:
        return error.message


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(at)]


@given(LINES, st.data(), st.lists(st.integers(0, 500), max_size=12))
@example([], None, [])
def test_chunking_and_line_ends_do_not_matter(
    lines: list[str], data: st.DataObject | None, places: list[int]
) -> None:
    stream = b""
    for line in lines:
        end = data.draw(ENDS) if data else b"\n"
        # After a bare CR, an LF that ends an empty line would belong to the line before.
        again = not line and stream.endswith(b"\r") and end == b"\n"
        stream += line.encode() + (b"\r" if again else end)
    whole = read("".join(f"{line}\n" for line in lines).encode())
    assert read(stream) == whole
    assert read(*(bytes([byte]) for byte in stream)) == whole
    assert read(*cut(stream, places)) == whole


@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_any_bytes_are_events_or_an_upstream_error(junk: bytes, places: list[int]) -> None:
    stream = b"data: a\n\n" + junk + b"\n\ndata: b\n\n"
    assert read(stream) == read(*cut(stream, places))


@given(st.lists(st.tuples(st.text(), st.sampled_from([None, "error", "delta"])), max_size=5))
def test_what_is_written_is_read(parts: list[tuple[str, str | None]]) -> None:
    sent = [Event(text.replace("\r", ""), name) for text, name in parts]
    assert read(b"".join(map(write, sent))) == sent


def test_the_fields_that_matter() -> None:
    stream = b": hi\n\nevent: a\ndata: 1\ndata:2\ndata: \n\nevent: b\n\nid: 3\ndata: 4\n\ndata: cut"
    assert read(stream) == [Event("1\n2\n", "a"), Event("4")]


def test_heartbeats_are_no_events() -> None:
    assert read(events.HEARTBEAT * 3 + write(DONE) + events.HEARTBEAT) == [DONE]


@pytest.mark.parametrize("step", [64 * 1024, EVENT_BYTES_MAX * 2])
@pytest.mark.parametrize("ended", [b"", b"\n", b"\n\n"])
def test_an_event_has_a_largest_size_however_it_comes(step: int, ended: bytes) -> None:
    line = b"data: " + b"x" * (EVENT_BYTES_MAX - 6)
    fits, larger = line + ended, line + b"x" + ended
    assert isinstance(read(*(fits[at : at + step] for at in range(0, len(fits), step))), list)
    over = read(*(larger[at : at + step] for at in range(0, len(larger), step)))
    assert over == "The upstream sent an event that is too large."


def test_many_lines_of_one_event_are_bounded_too() -> None:
    line = b"data: " + b"x" * 1024 + b"\n"
    assert read(*[line] * (EVENT_BYTES_MAX // len(line))) == []
    over = read(*[line] * (EVENT_BYTES_MAX // len(line) + 8))
    assert over == "The upstream sent an event that is too large."
