"""Request bodies as JSON, read strictly, so that no two parsers can disagree about them.

A lenient parser is a hole in a cache: `{"model":"cheap","model":"dear"}` is keyed as one request
and answered as another. So a body is UTF-8 without a byte-order mark, has no duplicate names, no
NaN, no lone surrogates, bounded depth and size; what goes upstream is the object that was keyed,
written again, never the bytes that came in (security finding A6).

Numbers are canonical from here on: `1.0`, `1` and `1e0` are the same number.
"""

import json
import re
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any

from edge.errors import ClientError
from edge.request import LARGE_BODY_BYTES

STRUCTURE_MAX = 20_000
"""Brackets, braces and commas outside strings: 1 MiB of `[],` grows 26-fold once parsed."""

DEPTH_MAX = 32

_STRINGS_MAX = 2 * STRUCTURE_MAX + 4
"""A name and a value between two commas: more strings than this cannot be within the limit."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A string, also one that never ends: were it to fail there, each quote in it would be tried next
and read to the end again, and 32 KiB of them would take two seconds."""
_PIECE = 64 * 1024
_BRACKETS = re.compile(rb"[\[\]{}]")


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises:
        ClientError: 400 `invalid_json` or `duplicate_key`, saying what is wrong with it.
    """
    _check_structure(body)
    try:
        document = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise _invalid("the body is not UTF-8") from exc
    except RecursionError as exc:
        raise _invalid(f"nested deeper than {DEPTH_MAX} levels") from exc
    except json.JSONDecodeError as exc:
        raise _invalid(f"{exc.msg} at line {exc.lineno}, column {exc.colno}") from exc
    except ValueError as exc:  # an integer of more than 4,300 digits
        raise _invalid("a number has too many digits") from exc
    if not isinstance(document, dict):
        raise _invalid("the body must be a JSON object")
    return document


def write(document: Any, size: int = 0) -> bytes:
    """Compact JSON in the document's own order; `size` is that of the body it was read from.

    Raises:
        ClientError: 400 when a string holds a lone surrogate, which no UTF-8 can carry.
    """
    return _utf8(_written(_WRITER, document, size))


def canonical(document: Any, size: int = 0) -> bytes:
    """The one spelling of all documents that mean the same JSON: sorted names, no whitespace."""
    return _utf8(_written(_CANONICAL, document, size))


def _written(writer: json.JSONEncoder, document: Any, size: int) -> str:
    if size <= LARGE_BODY_BYTES:
        return writer.encode(document)
    encode = c_make_encoder(
        {}, writer.default, _string, None, ":", ",", writer.sort_keys, False, False
    )
    return "".join(encode(document, 0))


def _string(text: str) -> str:
    """As the encoder writes it itself, but long ones in pieces: it keeps the interpreter to itself
    until a string is written, which takes 20 ms for one of 8 MiB."""
    if len(text) <= _PIECE:
        return encode_basestring(text)
    pieces = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
    return f'"{"".join([encode_basestring(piece)[1:-1] for piece in pieces])}"'


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise _invalid("a string holds a lone surrogate (\\ud800 to \\udfff)") from exc


def _check_structure(body: bytes) -> None:
    opening = body.count(b"[") + body.count(b"{")
    if opening <= DEPTH_MAX and opening + body.count(b",") <= STRUCTURE_MAX:
        return
    bare, strings = _STRING.subn(b"", body, count=_STRINGS_MAX + 1)
    structure = bare.count(b"[") + bare.count(b"{") + bare.count(b",")
    if strings > _STRINGS_MAX or structure > STRUCTURE_MAX:
        raise _invalid(f"more than {STRUCTURE_MAX} brackets, braces and commas")
    depth = 0
    for bracket in _BRACKETS.finditer(bare):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > DEPTH_MAX:
            raise _invalid(f"nested deeper than {DEPTH_MAX} levels")
        if depth < 0:
            return  # closes what was never opened: the parser reads no further than here


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ClientError(
            f"The name {name!r} appears twice in one JSON object. Send each name once.",
            code="duplicate_key",
            param=name.encode("utf-8", "backslashreplace").decode("utf-8"),
        )
    return found


def _number(literal: str) -> float | int:
    value = float(literal)
    if value in (float("inf"), float("-inf")):
        raise _invalid("a number is too large")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _constant(literal: str) -> Any:
    raise _invalid(f"{literal} is not JSON")


def _invalid(why: str) -> ClientError:
    return ClientError(f"The request body is not valid JSON: {why}.", code="invalid_json")


# Made once: with options, json.loads and json.dumps make one for each call.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_number, parse_constant=_constant
)
_WRITER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_CANONICAL = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=True
)
