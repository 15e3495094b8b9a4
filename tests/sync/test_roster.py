"""Who belongs to the fleet is what its operator said last."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.entry import EVERYWHERE, NodeName, Scope, Version
from sync.messages import MessageError
from sync.roster import Roster, admits, enrol
from tests.fakes.fleet import OPERATOR, enrolment, key, node, roster


def test_the_latest_line_counts_in_any_order() -> None:
    lines = [
        enrol(enrolment("a", version=1), OPERATOR),
        enrol(enrolment("a", version=3, revoked=True), OPERATOR),
        enrol(enrolment("a", "us", version=2), OPERATOR),
        enrol(enrolment("b"), OPERATOR),
    ]
    ends = set()
    for order in permutations(lines):
        made = Roster(OPERATOR.public_key())
        for line in [*order, *order]:
            made.merge(line)
        ends.add((made.digest, tuple(made.lines())))
        assert made.member(node("a")) is None
        assert made.get(node("a")) == enrolment("a", version=3, revoked=True)
        assert [one.name for one in made] == sorted([node("a"), node("b")])
    assert len(ends) == 1


def test_what_is_known_is_no_news() -> None:
    made = roster(enrolment("a"))
    digest = made.digest
    assert made.merge(enrol(enrolment("a"), OPERATOR)) is None
    assert made.merge(enrol(enrolment("a", version=0), OPERATOR)) is None
    assert made.digest == digest
    assert made.merge(enrol(enrolment("a", version=2), OPERATOR)) is not None
    assert made.digest != digest


def test_revoked_wins_over_what_was_signed_without_knowing_it() -> None:
    """A node whose address changes while it is cut off has its own line signed anew."""
    lines = [
        enrol(enrolment("a", version=2, revoked=True), OPERATOR),
        enrol(enrolment("a", "us", version=3), OPERATOR),
    ]
    for order in (lines, lines[::-1]):
        made = Roster(OPERATOR.public_key())
        for line in order:
            made.merge(line)
        assert made.member(node("a")) is None


def test_revoked_wins_a_tie() -> None:
    both = [enrolment("a"), enrolment("a", revoked=True)]
    for order in permutations(both):
        assert roster(*order).member(node("a")) is None


def test_only_the_operator_enrols() -> None:
    made = roster(enrolment("a"))
    with pytest.raises(MessageError):
        made.merge(enrol(enrolment("b"), key("a")))
    line = bytearray(enrol(enrolment("b"), OPERATOR))
    line[70] ^= 1
    with pytest.raises(MessageError):
        made.merge(bytes(line))
    assert node("b") not in made


def test_a_name_is_of_one_key() -> None:
    stolen = replace(enrolment("a"), public_key=key("b").public_key().public_bytes_raw())
    with pytest.raises(MessageError):
        enrol(stolen, OPERATOR)
    with pytest.raises(MessageError):
        enrol(replace(enrolment("a"), name=NodeName("a")), OPERATOR)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(line: bytes) -> None:
    with pytest.raises(MessageError):
        Roster(OPERATOR.public_key()).merge(line)


def test_scopes_are_patterns() -> None:
    some = enrolment("a", scopes=["shared", "tenant:acme*"])
    assert some.admits(Scope("shared"))
    assert some.admits(Scope("tenant:acme-2"))
    assert not some.admits(Scope("tenant:other"))
    assert not some.admits(None)
    assert enrolment("a").admits(None)


def test_reach_is_regions_or_everywhere() -> None:
    assert admits(EVERYWHERE, "eu")
    assert admits(("eu", "us"), "us")
    assert not admits(("eu",), "us")
    assert not admits((), "eu"), "for the node that fetched it alone"


def test_repr_says_which_fleet_and_how_many() -> None:
    made = roster(enrolment("a"), enrolment("b", revoked=True, version=2))
    assert repr(made).endswith("2 nodes, 1 revoked>")
    assert made.member(node("a")) == enrolment("a", version=1)
    assert made.key(node("a")).public_bytes_raw() == enrolment("a").public_key
    assert len(made) == 2
    assert made.get(node("a")).version == Version(1)  # type: ignore[union-attr]
