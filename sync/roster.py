"""Who belongs to the fleet, and what each may say: lines that the operator signed.

One line says all about one node, and the line with the highest version is the one that counts, so
rosters merge in any order from anybody. Nobody can add a line, or restore an old one over a newer.
To revoke a node is to enrol it once more, as revoked; that counts more than any line that does not.

API keys travel and are kept as lines of the same list (`sync.keybook`): whoever knows who belongs
to the fleet knows whom it serves.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Final

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from index.entry import NodeName, Reach, Scope, Version
from sync.certificates import node_name
from sync.keybook import KeyBook, KeyRecord, is_of_key
from sync.messages import MessageError, exactly, number, several, text, typed, unpacked

NODES_MAX: Final = 4_096
SCOPES_MAX: Final = 64
LINE_BYTES_MAX: Final = 32 << 10

_CONTEXT: Final = b"promptedge enrolment\0"
_SIGNATURE: Final = 64


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the operator says of one node."""

    name: NodeName
    public_key: bytes
    """Ed25519, 32 bytes; its hash is in the name."""
    region: str
    address: str
    """Of its sync listener, host:port; empty: it only dials."""
    version: Version
    sponsor: NodeName
    """The node that let it in."""
    may_publish: bool = True
    may_invite: bool = True
    scopes: tuple[str, ...] = ("*",)
    """Patterns of the scopes whose answers it may tell, keep and purge."""
    revoked: bool = False

    def admits(self, scope: Scope | None) -> bool:
        """None is all scopes: for who may have them all."""
        if scope is None:
            return "*" in self.scopes
        return any(fnmatchcase(scope, pattern) for pattern in self.scopes)


def fleet_id(operator: Ed25519PublicKey) -> bytes:
    """What tells one fleet from another: 16 bytes."""
    return hashlib.sha256(b"promptedge fleet\0" + operator.public_bytes_raw()).digest()[:16]


def admits(reach: Reach, region: str) -> bool:
    """May an answer of this reach be kept in `region`, on another node than its own?"""
    return "*" in reach or region in reach


def enrol(enrolment: Enrolment, operator: Ed25519PrivateKey) -> bytes:
    """The line of a roster. Raises MessageError for what no roster would take."""
    payload: bytes = msgpack.packb([getattr(enrolment, one.name) for one in fields(enrolment)])
    line = operator.sign(_CONTEXT + payload) + payload
    _enrolment(_columns(line))
    return line


class Roster:
    """All lines of one fleet, by node."""

    def __init__(self, operator: Ed25519PublicKey) -> None:
        self.operator = operator
        self.fleet = fleet_id(operator)
        self.keybook = KeyBook(operator)
        """The API keys of the fleet."""
        self._hash = 0
        self._enrolments: dict[NodeName, Enrolment] = {}
        self._lines: dict[NodeName, bytes] = {}
        self._keys: dict[NodeName, Ed25519PublicKey] = {}

    @property
    def digest(self) -> int:
        """Two rosters with one digest are the same."""
        return self._hash ^ self.keybook.hash

    def merge(self, line: bytes) -> Enrolment | KeyRecord | None:
        """What is new in it; None when nothing is. Raises MessageError."""
        columns = _columns(line)
        if is_of_key(columns):
            return self.keybook.merge(line, columns)
        enrolment = _enrolment(columns)
        known = self._enrolments.get(enrolment.name)
        if known is not None and _rank(enrolment, line) <= _rank(known, self._lines[known.name]):
            return None
        if known is None and len(self._enrolments) >= NODES_MAX:
            raise MessageError("too many nodes")
        try:
            self.operator.verify(line[:_SIGNATURE], _CONTEXT + line[_SIGNATURE:])
            key = Ed25519PublicKey.from_public_bytes(enrolment.public_key)
        except (InvalidSignature, ValueError) as exc:
            raise MessageError("not signed by the operator") from exc
        if known is not None:
            self._hash ^= _hash(self._lines[known.name])
        self._hash ^= _hash(line)
        self._enrolments[enrolment.name] = enrolment
        self._lines[enrolment.name] = line
        self._keys[enrolment.name] = key
        return enrolment

    def get(self, name: NodeName) -> Enrolment | None:
        """Revoked ones too."""
        return self._enrolments.get(name)

    def member(self, name: NodeName) -> Enrolment | None:
        """The node, if it is enrolled and not revoked."""
        found = self._enrolments.get(name)
        return None if found is None or found.revoked else found

    def key(self, name: NodeName) -> Ed25519PublicKey:
        """Of an enrolled node. Raises KeyError."""
        return self._keys[name]

    def lines(self) -> list[bytes]:
        """Those of keys too."""
        return [*(self._lines[name] for name in sorted(self._lines)), *self.keybook.lines()]

    def __iter__(self) -> Iterator[Enrolment]:
        return iter([self._enrolments[name] for name in sorted(self._enrolments)])

    def __len__(self) -> int:
        return len(self._enrolments)

    def __contains__(self, name: object) -> bool:
        return name in self._enrolments

    def __repr__(self) -> str:
        revoked = sum(one.revoked for one in self)
        return f"<Roster {self.fleet.hex()[:8]}: {len(self)} nodes, {revoked} revoked>"


def _rank(enrolment: Enrolment, line: bytes) -> tuple[bool, Version, bytes]:
    """Who was revoked stays so, whatever another node that had not heard of it signed since."""
    return enrolment.revoked, enrolment.version, line


def _hash(line: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(line, digest_size=8).digest())


def _columns(line: bytes) -> tuple[Any, ...]:
    if not _SIGNATURE < len(line) <= LINE_BYTES_MAX:
        raise MessageError("not a line of a roster")
    return typed(unpacked(line[_SIGNATURE:]), tuple)


def _enrolment(columns: tuple[Any, ...]) -> Enrolment:
    name, key, region, address, version, sponsor, publish, invite, scopes, revoked = exactly(
        columns, 10
    )
    enrolment = Enrolment(
        name=NodeName(text(name, 128)),
        public_key=typed(key, bytes),
        region=text(region),
        address=text(address),
        version=Version(number(version, 1 << 63)),
        sponsor=NodeName(text(sponsor, 128)),
        may_publish=typed(publish, bool),
        may_invite=typed(invite, bool),
        scopes=tuple(text(pattern) for pattern in several(scopes, SCOPES_MAX)),
        revoked=typed(revoked, bool),
    )
    stem = enrolment.name.rpartition(".")[0]
    if not (stem and enrolment.name.isascii() and len(enrolment.public_key) == 32):
        raise MessageError("not a node's name or key")
    if enrolment.name != node_name(stem, enrolment.public_key):
        raise MessageError("a name of another key")
    return enrolment
