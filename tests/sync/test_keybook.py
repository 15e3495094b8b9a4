"""API keys are lines of the roster: signed by the operator, merged in any order."""

from dataclasses import replace
from itertools import permutations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.entry import Timestamp, Version
from sync.keybook import NEVER, KeyRecord, sign
from sync.messages import MessageError
from sync.roster import Roster, enrol
from tests.fakes.fleet import OPERATOR, enrolment, key

RECORD = KeyRecord(
    digest=b"d" * 32,
    tenant="acme",
    plan="",
    scopes=(),
    residency=None,
    last="abcd",
    made_at=Timestamp(1.0),
    expires_at=NEVER,
    version=Version(1),
)


def test_a_revoked_key_stays_revoked_in_any_order() -> None:
    lines = [
        sign(RECORD, OPERATOR),
        sign(replace(RECORD, version=Version(2), revoked=True), OPERATOR),
        sign(replace(RECORD, version=Version(3), expires_at=Timestamp(9.0)), OPERATOR),
        sign(replace(RECORD, digest=b"e" * 32), OPERATOR),
        enrol(enrolment("a"), OPERATOR),
    ]
    ends = set()
    for order in permutations(lines):
        roster = Roster(OPERATOR.public_key())
        for line in [*order, *order]:
            roster.merge(line)
        ends.add((roster.digest, tuple(roster.lines())))
        kept = roster.keybook.get(RECORD.digest)
        assert kept is not None
        assert kept.revoked
        assert (len(roster), len(roster.keybook)) == (1, 2)
    assert len(ends) == 1


def test_a_key_without_regions_is_written_as_it_was_before_keys_had_any() -> None:
    """So a fleet whose nodes are of two versions knows its keys everywhere."""
    before, after = sign(RECORD, OPERATOR), sign(replace(RECORD, regions=("eu",)), OPERATOR)
    assert len(msgpack.unpackb(before[64:])) == 10
    for line, regions in ((before, None), (after, ("eu",))):
        roster = Roster(OPERATOR.public_key())
        roster.merge(line)
        kept = roster.keybook.get(RECORD.digest)
        assert kept == replace(RECORD, regions=regions)


def test_only_the_operator_makes_keys() -> None:
    roster = Roster(OPERATOR.public_key())
    with pytest.raises(MessageError):
        roster.merge(sign(RECORD, key("a")))
    line = bytearray(sign(RECORD, OPERATOR))
    line[70] ^= 1
    with pytest.raises(MessageError):
        roster.merge(bytes(line))
    assert len(roster.keybook) == 0


def test_what_is_signed_of_a_node_is_not_of_a_key() -> None:
    """The signature says which sort of line it is; a payload cannot be moved to the other."""
    payload = sign(RECORD, OPERATOR)[64:]
    signature = enrol(enrolment("a"), OPERATOR)[:64]
    with pytest.raises(MessageError):
        Roster(OPERATOR.public_key()).merge(signature + payload)


@pytest.mark.parametrize(
    "wrong",
    [{"digest": b"d"}, {"tenant": ""}, {"tenant": "x" * 300}, {"last": "abcde"}],
    ids=str,
)
def test_what_is_no_key_is_not_signed(wrong: dict[str, object]) -> None:
    with pytest.raises(MessageError):
        sign(replace(RECORD, **wrong), OPERATOR)  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_nothing_else_is_taken(line: bytes) -> None:
    with pytest.raises(MessageError):
        Roster(OPERATOR.public_key()).merge(line)


def test_an_edition_is_another_one_for_news_alone() -> None:
    roster = Roster(OPERATOR.public_key())
    roster.merge(sign(RECORD, OPERATOR))
    edition = roster.keybook.edition
    roster.merge(sign(RECORD, OPERATOR))
    assert roster.keybook.edition == edition
    roster.merge(sign(replace(RECORD, version=Version(2)), OPERATOR))
    assert roster.keybook.edition != edition
