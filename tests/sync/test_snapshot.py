"""A snapshot is what was written, up to the first byte that is not; only the whole of it ends."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.entry import Hint, NodeName, Purge, Purged, Timestamp, Version
from sync.snapshot import (
    MAGIC,
    RECORD_BYTES_MAX,
    Header,
    Kept,
    Record,
    SnapshotError,
    SnapshotReader,
    SnapshotWriter,
    Trailer,
    fleet_of,
)
from tests.fakes.entries import NOW, entry
from tests.sync.strategies import NAMES, SEENS, VERSIONS, entries

SECRET, OTHER = b"s" * 32, b"o" * 32
SEEN = ((NodeName("a"), Version(7)),)
HEADER = Header("fra-1.00000000", "encoder", NOW, SEEN)
PURGED = Purged(Purge(label="model:m"), NodeName("a"), Version(7), Version(3), soft=True)
RECORDS: list[Purged | Kept] = [
    PURGED,
    Kept(replace(entry("one", question="What?"), seen=SEEN, labels=("l",), pinned=True)),
    Kept(entry("two"), Hint("encoder", b"\x01\xff")),
]

HEADERS = st.builds(Header, NAMES, NAMES, st.floats(0, 1e10).map(Timestamp), SEENS)
HINTS = st.none() | st.builds(Hint, NAMES, st.binary(max_size=64))


def write(header: Header, records: list[Purged | Kept], secret: bytes = SECRET) -> bytes:
    writer = SnapshotWriter(secret)
    parts = [writer.begin(header), *(writer.record(one) for one in records), writer.end()]
    return b"".join(parts)


def read(*parts: bytes, secret: bytes = SECRET) -> list[Record]:
    reader = SnapshotReader(secret)
    found = [record for part in parts for record in reader.feed(part)]
    reader.close()
    return found


WHOLE = write(HEADER, RECORDS)


def good_part(data: bytes) -> tuple[list[Record], str]:
    """What is read before the error, and the error."""
    reader = SnapshotReader(SECRET)
    found: list[Record] = []
    try:
        for record in reader.feed(data):
            found.append(record)  # noqa: PERF402  what came before the error counts
        reader.close()
    except SnapshotError as exc:
        return found, str(exc)
    raise AssertionError("it was read to its end")


@settings(max_examples=50)
@given(HEADERS, st.lists(st.builds(Kept, entries(), HINTS), max_size=3), st.data())
def test_it_is_read_as_it_was_written_however_it_is_split(
    header: Header, kept: list[Purged | Kept], data: st.DataObject
) -> None:
    whole = write(header, [PURGED, *kept])
    at = data.draw(st.integers(0, len(whole)))
    assert read(whole[:at], whole[at:]) == [header, PURGED, *kept, Trailer(len(kept), 1)]


def test_it_can_be_read_byte_by_byte() -> None:
    assert read(*(bytes([byte]) for byte in WHOLE)) == [HEADER, *RECORDS, Trailer(2, 1)]


def test_a_snapshot_of_nothing() -> None:
    assert read(write(HEADER, [])) == [HEADER, Trailer(0, 0)]


def test_cut_anywhere_it_is_known_to_be_cut_and_what_came_before_is_good() -> None:
    for end in range(len(WHOLE)):
        found, error = good_part(WHOLE[:end])
        assert "cut off" in error
        assert found == [HEADER, *RECORDS][: len(found)]


def test_a_flipped_bit_anywhere_is_found_before_it_is_used() -> None:
    for at in range(len(WHOLE)):
        damaged = bytearray(WHOLE)
        damaged[at] ^= 1 << at % 8
        found, error = good_part(bytes(damaged))
        assert found == [HEADER, *RECORDS][: len(found)]
        assert error


@pytest.mark.parametrize("count", [1, 7, 100])
def test_a_part_cut_out_or_repeated_is_found(count: int) -> None:
    for at in range(0, len(WHOLE) - count, 3):
        part = WHOLE[at : at + count]
        good_part(WHOLE[:at] + WHOLE[at + count :])
        found, _ = good_part(WHOLE[:at] + part + WHOLE[at:])
        assert found == [HEADER, *RECORDS, Trailer(2, 1)][: len(found)]


def test_records_of_another_snapshot_do_not_fit_in() -> None:
    other = write(replace(HEADER, node="b"), [RECORDS[2], RECORDS[1]])
    first = SnapshotWriter(SECRET).begin(HEADER)
    found, error = good_part(first + other[len(SnapshotWriter(SECRET).begin(HEADER)) :])
    assert (found, "damaged" in error) == ([HEADER], True)


def test_nothing_may_follow() -> None:
    assert "something follows" in good_part(WHOLE + b"x")[1]
    assert "something follows" in good_part(WHOLE + WHOLE)[1]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cut off after 0 bytes"),
        (b"{}", "no snapshot of a promptedge node"),
        (b"\x28\xb5\x2f\xfd rest", "no snapshot of a promptedge node"),
        (MAGIC + b"2 " + fleet_of(SECRET).encode() + b"\r\n", "a newer version is needed"),
        (MAGIC + b"0 " + fleet_of(SECRET).encode() + b"\r\n", "first line is damaged"),
        (MAGIC + b"x\r\n", "first line is damaged"),
        (MAGIC + b"1" * 60, "damaged on its way"),
        (WHOLE.replace(b"\r\n", b"\n", 1), "sent as text"),
    ],
)
def test_what_is_no_snapshot_for_us_is_said(data: bytes, said: str) -> None:
    assert said in good_part(data)[1]


def test_another_fleets_is_refused_by_its_first_line() -> None:
    with pytest.raises(SnapshotError, match="another fleet"):
        read(WHOLE, secret=OTHER)
    line = SnapshotWriter(SECRET).begin(HEADER).split(b"\r\n")[0]
    forged = write(HEADER, RECORDS, OTHER).split(b"\r\n", 1)[1]
    assert good_part(line + b"\r\n" + forged)[0] == []


def test_a_record_that_claims_too_much_is_not_waited_for() -> None:
    line = WHOLE[: WHOLE.index(b"\r\n") + 2]
    reader = SnapshotReader(SECRET)
    with pytest.raises(SnapshotError, match="damaged"):
        list(reader.feed(line + (RECORD_BYTES_MAX + 1).to_bytes(4) + b"x"))


def test_what_cannot_be_written_is_left_out_and_not_counted() -> None:
    records = [Kept(replace(entry("one"), model="\ud800")), *RECORDS]
    assert read(write(HEADER, records)) == [HEADER, *RECORDS, Trailer(2, 1)]


def test_what_is_too_large_is_left_out() -> None:
    large = Kept(entry("one", bytes(RECORD_BYTES_MAX)))
    assert read(write(HEADER, [large, RECORDS[1]])) == [HEADER, RECORDS[1], Trailer(1, 0)]


PLAIN: tuple[Any, ...] = (
    *("shared", b"k" * 32, "m", b"body", 1.0, 2.0, None, 0),
    *("by", 1, (), ("eu",), ("l",), False, None),
)
MALFORMED: dict[str, Any] = {
    "no array": "text",
    "nothing": (),
    "an unknown kind": (9, 1),
    "a kind that is text": ("3",),
    "too few fields": (3, *PLAIN[:-1]),
    "a header of numbers": (1, 1, 2, 3.0, ()),
    "a time that is text": (1, "a", "e", "now", ()),
    "a time far off": (1, "a", "e", 1e12, ()),
    "a map": (1, {}, "e", 1.0, ()),
    "a purge without a node": (2, None, None, None, None, 1, 0, False),
    "a key that is text": (3, PLAIN[0], "k" * 32, *PLAIN[2:]),
    "a label that is a number": (3, *PLAIN[:12], (1,), *PLAIN[13:]),
    "a hint of too many dimensions": (3, *PLAIN[:-1], ("encoder", bytes(5000))),
    "a question of one part": (3, *PLAIN[:6], (b"p",), *PLAIN[7:]),
    "counts that are not so": (4, 1, 1),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_record_that_is_sealed_and_makes_no_sense_is_refused(name: str) -> None:
    writer = SnapshotWriter(SECRET)
    sealed = writer.begin(HEADER) + writer._framed(msgpack.packb(MALFORMED[name]))
    found, error = good_part(sealed)
    assert found == [HEADER]
    assert "record" in error


@given(VERSIONS, st.binary(max_size=200))
def test_any_bytes_end_in_an_error_of_ours(version: int, data: bytes) -> None:
    line = MAGIC + b"1 " + fleet_of(SECRET).encode() + b"\r\n"
    for beginning in (b"", line, line + WHOLE[len(line) : len(line) + version % 200]):
        good_part(beginning + data)
