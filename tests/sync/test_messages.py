"""Codec laws: what is said is what is understood, and nothing else is understood."""

import tracemalloc
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.entry import (
    EVERYWHERE,
    LABELS_TOLD_MAX,
    Entry,
    Hint,
    NodeName,
    Purged,
    Scope,
    Timestamp,
    Version,
)
from sync.dialogue import DialogueMessage, read, written
from sync.frames import Forged, UnknownVersion, opened, peek, signed
from sync.messages import (
    PAYLOAD_BYTES_MAX,
    Enrolments,
    Entries,
    Message,
    MessageError,
    UnknownKind,
    kind_of,
    pack,
    sayable,
    unpack,
)
from tests.fakes import entries as fakes
from tests.fakes.fleet import FLEET, key, node
from tests.sync.strategies import BY, DIALOGUE, MESSAGES, VERSIONS

KEY = key("fra-1")
V9 = Version(9)
KINDS = st.integers(0, 255)


def told(name: str | int, **fields: Any) -> Entry:
    made = replace(fakes.entry(name), stored_by=BY, version=V9, reach=EVERYWHERE)
    return replace(made, **fields)


def frame(message: Message, version: Version = V9) -> bytes:
    return signed(message, BY, version, KEY, FLEET)


def opened_by_name(data: bytes) -> Message:
    return opened(data, peek(data), KEY.public_key(), FLEET)


# What is said is what is understood.


@given(MESSAGES, VERSIONS)
def test_a_frame_is_understood_as_it_was_meant(message: Message, version: Version) -> None:
    if isinstance(message, Purged):
        version = message.version
    data = frame(message, version)
    header = peek(data)
    assert (header.kind, header.origin, header.version) == (kind_of(message), BY, version)
    assert opened_by_name(data) == message


@given(DIALOGUE)
def test_a_link_message_is_understood_as_it_was_meant(message: DialogueMessage) -> None:
    assert read(written(message)) == message


def test_what_many_entries_have_seen_is_told_once() -> None:
    seen = tuple((node(f"n{number}"), Version(5)) for number in range(20))
    one = len(pack(Entries(((told(0, seen=seen), None),))))
    many = len(pack(Entries(tuple((told(number, seen=seen), None) for number in range(64)))))
    assert many < one + 64 * 200
    understood = unpack(1, pack(Entries(((told(0, seen=seen), None),) * 2)), BY, V9)
    assert isinstance(understood, Entries)
    assert understood.items[0][0].seen is understood.items[1][0].seen


# Nothing else is.


@given(st.binary(max_size=300), KINDS)
def test_any_payload_is_a_message_or_a_message_error(payload: bytes, kind: int) -> None:
    with suppress(MessageError):
        unpack(kind, payload, BY, V9)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 63) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=14),
    max_leaves=40,
)


@given(ANYTHING, KINDS)
def test_any_structure_is_a_message_or_a_message_error(structure: object, kind: int) -> None:
    with suppress(MessageError):
        unpack(kind, msgpack.packb(structure), BY, V9)


@given(MESSAGES, st.data())
def test_a_message_with_one_field_changed_is_a_message_or_a_message_error(
    message: Message, data: st.DataObject
) -> None:
    structure = msgpack.unpackb(pack(message))
    place, index = structure, data.draw(st.integers(0, len(structure) - 1))
    while isinstance(inner := place[index], list) and inner and data.draw(st.booleans()):
        place, index = inner, data.draw(st.integers(0, len(inner) - 1))
    place[index] = data.draw(ANYTHING)
    try:
        understood = unpack(kind_of(message), msgpack.packb(structure), BY, V9)
    except MessageError:
        return
    assert pack(understood), "what is understood can be said"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_a_message_error(data: bytes) -> None:
    try:
        opened_by_name(data)
    except MessageError:
        return
    raise AssertionError("nobody signed this")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_link_message_or_a_message_error(data: bytes) -> None:
    with suppress(MessageError):
        read(data)


@given(MESSAGES, st.data())
def test_a_frame_changed_anywhere_is_refused(message: Message, data: st.DataObject) -> None:
    good = frame(message, message.version if isinstance(message, Purged) else V9)
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(MessageError):
        opened_by_name(bytes(bad))
    with pytest.raises(MessageError):
        opened_by_name(good[:place])


def test_a_frame_is_of_one_node_and_one_fleet() -> None:
    data = frame(Enrolments(()))
    with pytest.raises(Forged):
        opened(data, peek(data), key("fra-2").public_key(), FLEET)
    with pytest.raises(Forged):
        opened(data, peek(data), KEY.public_key(), bytes(16))


def test_a_later_version_or_kind_is_refused_by_name() -> None:
    data = bytearray(frame(Enrolments(())))
    data[0] += 1
    with pytest.raises(UnknownVersion):
        peek(bytes(data))
    with pytest.raises(UnknownKind):
        unpack(99, msgpack.packb([]), BY, V9)


# Limits.


@pytest.mark.parametrize("filler", [b"\xc0", b"\x80", b"\x90", b"\x91\xc0", b"\xa2ab", b"\xc4\0"])
def test_a_bomb_is_refused_in_bounded_memory(filler: bytes) -> None:
    row = b"\xdc\x08\x00" + filler * 2048
    count = min(2048, (PAYLOAD_BYTES_MAX - 3) // len(row))
    bomb = b"\xdc" + count.to_bytes(2) + row * count
    tracemalloc.start()
    for kind in range(6):
        with pytest.raises(MessageError):
            unpack(kind, bomb, BY, V9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48 << 20


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x91" * 1_000_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
        b"\xd6\xff\0\0\0\0",
        b"\x90\x90",
        b"",
    ],
)
def test_what_claims_to_be_huge_or_is_deep_is_refused(bomb: bytes) -> None:
    for kind in range(6):
        with pytest.raises(MessageError):
            unpack(kind, bomb, BY, V9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reach": ()},
        {"key": b"short"},
        {"body": bytes(1_000_001)},
        {"stored_at": float("nan")},
        {"expires_at": float("inf")},
        {"expires_at": Timestamp(fakes.NOW)},
        {"tokens": -1},
        {"version": Version(0)},
        {"version": Version(1 << 63)},
        {"model": "m" * 257},
        {"labels": ("",)},
        {"labels": tuple(str(number) for number in range(LABELS_TOLD_MAX + 1))},
        {"stored_by": NodeName("")},
        {"scope": Scope("")},
        {"seen": tuple((node(str(number)), Version(1)) for number in range(1025))},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_entry_out_of_bounds_is_neither_said_nor_understood(wrong: dict[str, Any]) -> None:
    entry = told(1, **wrong)
    assert not sayable(entry)
    with pytest.raises(MessageError):
        pack(Entries(((entry, None),)))


def test_a_frame_holds_entries_of_one_reach_one_scope_one_encoder_and_64_at_most() -> None:
    apart = [
        (told(1), told(2, reach=("eu",))),
        (told(1), told(2, scope=Scope("tenant:a"))),
    ]
    for pair in apart:
        with pytest.raises(MessageError):
            pack(Entries(tuple((one, None) for one in pair)))
    with pytest.raises(MessageError):
        pack(Entries(((told(1), Hint("x", b"1")), (told(2), Hint("y", b"1")))))
    for count in (0, 65):
        with pytest.raises(MessageError):
            pack(Entries(((told(1), None),) * count))


def test_text_that_is_no_utf8_stays_here() -> None:
    with pytest.raises(MessageError):
        pack(Entries(((told(1, model="\ud800"), None),)))


def test_the_largest_body_fits_a_frame_and_two_do_not() -> None:
    large = told(1, body=bytes(1_000_000))
    assert len(frame(Entries(((large, None),)))) <= 1 << 20
    with pytest.raises(MessageError):
        pack(Entries(((large, None), (large, None))))
