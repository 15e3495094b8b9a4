"""Request bodies: any bytes are an object or a ClientError, and one object has one spelling."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge import json_body
from edge.errors import ClientError
from edge.json_body import DEPTH_MAX, STRUCTURE_MAX, canonical, read_object, write
from edge.request import LARGE_BODY_BYTES

NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"))
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)
OBJECTS = st.dictionaries(TEXTS, DOCUMENTS, max_size=6)
SYNTAX = st.lists(
    st.sampled_from([*b'{}[],:"\\1-. \n\x00\xff'])
    | st.sampled_from(["\\u", "\\ud800", "e9", "NaN", "null", "true", "é", "\ufeff"]),
    max_size=120,
).map(lambda parts: b"".join(bytes([p]) if isinstance(p, int) else p.encode() for p in parts))


def outcome(body: bytes) -> dict[str, Any] | ClientError:
    try:
        return read_object(body)
    except ClientError as error:
        return error


@given(SYNTAX | st.binary(max_size=200))
@example(b"[" * 100 + b'"\\')
@example(b'{"a":"' + b"\\" * 41)
@example(b"9" * 5000)
@example(b"-" * 33)
def test_any_bytes_are_an_object_or_a_client_error(body: bytes) -> None:
    got = outcome(body)
    if isinstance(got, ClientError):
        assert (got.status, got.code in ("invalid_json", "duplicate_key")) == (400, True)


@given(OBJECTS)
def test_what_is_written_reads_as_the_same(document: dict[str, Any]) -> None:
    assert canonical(read_object(write(document))) == canonical(read_object(canonical(document)))
    assert read_object(write(document)) == document


@given(OBJECTS, st.text(max_size=9))
def test_a_large_document_is_written_as_a_small_one(document: dict[str, Any], text: str) -> None:
    """Texts of several pieces too, and what has to be escaped wherever a piece ends."""
    document = {**document, "long": (text + 'a"\\\n\x00é漢😀') * 20_000}
    assert canonical(document, LARGE_BODY_BYTES + 1) == canonical(document)
    assert write(document, LARGE_BODY_BYTES + 1) == write(document)


def shuffled(draw: Any, value: Any) -> Any:
    """The same document with its names in another order and its numbers spelt otherwise."""
    if isinstance(value, dict):
        names = draw(st.permutations(list(value)))
        return {name: shuffled(draw, value[name]) for name in names}
    if isinstance(value, list):
        return [shuffled(draw, item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and draw(st.booleans()):
        return float(value)
    return value


@given(st.data(), OBJECTS, st.sampled_from([None, 1, 3]), st.booleans())
def test_spelling_does_not_matter(
    data: st.DataObject, document: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    other = json.dumps(shuffled(data.draw, document), indent=indent, ensure_ascii=ascii_only)
    assert canonical(read_object(other.encode())) == canonical(read_object(write(document)))


@pytest.mark.parametrize(
    "spellings",
    [
        ["1", "1.0", "1e0", "10e-1", "0.1e1", "1E+0"],
        ["0", "-0", "0.0", "-0.0", "0e9"],
        ["0.5", "5e-1", "0.50", ".5e0".replace(".5", "0.5")],
        ["1000", "1e3", "1.0E3"],
        ["-7", "-7.0", "-70e-1"],
    ],
)
def test_one_number_has_one_form(spellings: list[str]) -> None:
    forms = {canonical(read_object(b'{"n":%s}' % one.encode())) for one in spellings}
    assert len(forms) == 1


def test_neighbouring_numbers_stay_apart() -> None:
    spellings = ["0", "1", "1.5", "true", '"1"', "null", "9007199254740993", "9007199254740992"]
    forms = [canonical(read_object(b'{"n":%s}' % one.encode())) for one in spellings]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"a":{"b":1,"b":1}}', id="deep, equal values"),
        pytest.param(rb'{"a":1,"\u0061":2}', id="spelt otherwise"),
        pytest.param(rb'{"\ud800":1,"\ud800":2}', id="surrogate"),
    ],
)
def test_a_name_twice_anywhere_is_refused(body: bytes) -> None:
    with pytest.raises(ClientError) as refused:
        read_object(body)
    assert refused.value.code == "duplicate_key"
    assert refused.value.param is not None
    refused.value.param.encode()


# Structure: counted outside strings, before anything is parsed.


@pytest.mark.parametrize(
    "filler", ["," * 100_000, "[" * 100_000, "{}[],\\" * 50_000, '",' * 30_000]
)
def test_structural_characters_inside_strings_do_not_count(filler: str) -> None:
    body = json.dumps({"content": filler, "more": [filler, filler]}).encode()
    assert read_object(body)["content"] == filler


def test_the_limits_are_exact() -> None:
    at_limit = b'{"a":[' + b"1," * (STRUCTURE_MAX - 2) + b"1]}"
    assert len(read_object(at_limit)["a"]) == STRUCTURE_MAX - 1
    with pytest.raises(ClientError, match="brackets, braces and commas"):
        read_object(at_limit.replace(b"[1,", b"[1,1,"))
    deep = b'{"a":' + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1) + b"}"
    read_object(deep)
    with pytest.raises(ClientError, match="deeper"):
        read_object(deep.replace(b"[]", b"[[]]"))


def test_a_document_of_nothing_but_strings_may_have_as_many_as_its_commas_allow() -> None:
    pairs = ",".join(f'"{n}":"{n}"' for n in range(STRUCTURE_MAX - 1))
    assert len(read_object(f"{{{pairs}}}".encode())) == STRUCTURE_MAX - 1


class CountedPattern:
    """Counts how many bytes the patterns are given, and how often they match."""

    def __init__(self, pattern: Any) -> None:
        self.pattern = pattern
        self.matches = 0

    def subn(self, new: bytes, body: bytes, count: int) -> tuple[bytes, int]:
        bare, matches = self.pattern.subn(new, body, count=count)
        self.matches += matches
        return bare, matches

    def finditer(self, body: bytes) -> Any:
        for match in self.pattern.finditer(body):
            self.matches += 1
            yield match


def _hostile(size: int) -> dict[str, bytes]:
    opening = b"[" * (DEPTH_MAX + 1)
    return {
        "an unended string of escaped quotes": opening + b'"' + b'\\"' * (size // 2),
        "the same, cut in an escape": opening + b'"' + b'\\"' * (size // 2) + b"\\",
        "strings and commas": opening + b'"",' * (size // 3),
        "strings and colons": opening + b'"":' * (size // 3),
        "pairs": b"[]," * (size // 3),
        "closing brackets": b"[]" * (DEPTH_MAX + 1) + b"]" * size,
        "opening brackets": b"[" * size,
        "backslashes": opening + b"\\" * size,
    }


@pytest.mark.parametrize("name", _hostile(0))
def test_the_guard_does_bounded_work_and_refuses(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What it costs is counted, not timed: matches stay below a bound that no size moves."""
    work = []
    for size in (1 << 18, 1 << 20):
        strings = CountedPattern(json_body._STRING)
        brackets = CountedPattern(json_body._BRACKETS)
        with monkeypatch.context() as patch:
            patch.setattr(json_body, "_STRING", strings)
            patch.setattr(json_body, "_BRACKETS", brackets)
            with pytest.raises(ClientError):
                read_object(_hostile(size)[name])
        work.append(strings.matches + brackets.matches)
    assert max(work) <= 5 * STRUCTURE_MAX
    assert all(
        after <= before + 1 or after <= 5 * STRUCTURE_MAX for before, after in pairwise(work)
    )


def test_an_unended_string_is_read_once() -> None:
    """Had it to fail first, each of its quotes would begin a try of its own: n * n."""
    match = json_body._STRING.match(b'"' + b'\\"' * 1000)
    assert match is not None
    assert match.end() == 2001


@settings(max_examples=50)
@given(st.binary(max_size=60))
def test_strings_are_cut_out_as_the_parser_would(inner: bytes) -> None:
    text = json.dumps(inner.decode("latin-1")).encode()
    assert json_body._STRING.sub(b"", b"[" + text + b",1]") == b"[,1]"
