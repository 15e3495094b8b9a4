"""Which API keys there are, the same on every node: lines that the operator signed.

Of a key its SHA-256 is kept and nothing else that would let anybody use it. One line says all about
one key. A line that revokes it counts more than any that does not, so that a key which was revoked
on one node while another changed it stays so; else the highest version counts.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from index.entry import Timestamp, Version
from sync.messages import (
    REGIONS_MAX,
    MessageError,
    exactly,
    number,
    several,
    text,
    typed,
)

KEYS_MAX: Final = 65_536
"""Revoked ones too; some 40 MB."""
SCOPES_MAX: Final = 16
NEVER: Final = Timestamp(float("inf"))

COLUMNS: Final = 11
KEY_PREFIX: Final = "key:"
"""Of the names of keys among lines of the roster; no node's begins so."""

_CONTEXT: Final = b"promptedge api key\0"
_SIGNATURE: Final = 64


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What the operator says of one API key."""

    digest: bytes
    """Its SHA-256."""
    tenant: str
    plan: str
    """Empty: none, nothing is limited."""
    scopes: tuple[str, ...]
    """What it may be used for; empty: everything."""
    residency: tuple[str, ...] | None
    """Regions that answers to its requests may be kept in; None: all."""
    last: str
    """Its last four characters, for people."""
    made_at: Timestamp
    expires_at: Timestamp
    """`NEVER` if it does not."""
    version: Version
    revoked: bool = False
    regions: tuple[str, ...] | None = None
    """Regions whose upstreams may be sent its prompts; None: all."""

    @property
    def id(self) -> str:
        """What it is called where the key itself is not to be seen."""
        return self.digest[:6].hex()

    @property
    def name(self) -> str:
        """Among lines of the roster, where no node is called so."""
        return KEY_PREFIX + self.digest.hex()


def sign(record: KeyRecord, operator: Ed25519PrivateKey) -> bytes:
    """The line. Raises MessageError for what nobody would take."""
    columns = [getattr(record, one.name) for one in fields(record)]
    if record.regions is None:
        columns.pop()  # as it was before keys had any, so that older nodes know it too
    payload: bytes = msgpack.packb(columns)
    _record(msgpack.unpackb(payload, use_list=False))
    return operator.sign(_CONTEXT + payload) + payload


class KeyBook:
    """All keys of one fleet, by digest."""

    def __init__(self, operator: Ed25519PublicKey) -> None:
        self.hash = 0
        """Two books with one hash are the same."""
        self.edition = 0
        """Another one whenever anything changed here."""
        self._operator = operator
        self._records: dict[bytes, KeyRecord] = {}
        self._lines: dict[bytes, bytes] = {}

    def merge(self, line: bytes, columns: tuple[object, ...]) -> KeyRecord | None:
        """What is new in a line with these fields; None when nothing is. Raises MessageError."""
        record = _record(columns)
        known = self._records.get(record.digest)
        if known is not None and _rank(record, line) <= _rank(known, self._lines[known.digest]):
            return None
        if known is None and len(self._records) >= KEYS_MAX:
            raise MessageError("too many keys")
        try:
            self._operator.verify(line[:_SIGNATURE], _CONTEXT + line[_SIGNATURE:])
        except InvalidSignature as exc:
            raise MessageError("not signed by the operator") from exc
        if known is not None:
            self.hash ^= _hash(self._lines[known.digest])
        self.hash ^= _hash(line)
        self._records[record.digest] = record
        self._lines[record.digest] = line
        self.edition += 1
        return record

    def get(self, digest: bytes) -> KeyRecord | None:
        """Revoked and expired ones too."""
        return self._records.get(digest)

    def lines(self) -> list[bytes]:
        return [self._lines[digest] for digest in sorted(self._lines)]

    def __iter__(self) -> Iterator[KeyRecord]:
        return iter(sorted(self._records.values(), key=lambda one: (one.made_at, one.digest)))

    def __len__(self) -> int:
        return len(self._records)


def is_of_key(columns: tuple[object, ...]) -> bool:
    """Is a line of a key, rather than of a node? A node's begins with its name."""
    return bool(columns) and isinstance(columns[0], bytes)


def _rank(record: KeyRecord, line: bytes) -> tuple[bool, Version, bytes]:
    return record.revoked, record.version, line


def _hash(line: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(line, digest_size=8).digest())


def _record(columns: tuple[object, ...]) -> KeyRecord:
    if len(columns) == COLUMNS - 1:
        columns = (*columns, None)
    digest, tenant, plan, scopes, residency, last, made, expires, version, revoked, regions = (
        exactly(columns, COLUMNS)
    )
    record = KeyRecord(
        digest=typed(digest, bytes),
        tenant=text(tenant),
        plan=text(plan),
        scopes=tuple(text(one) for one in several(scopes, SCOPES_MAX)),
        residency=_regions(residency),
        last=text(last, 4),
        made_at=Timestamp(typed(made, float)),
        expires_at=Timestamp(typed(expires, float)),
        version=Version(number(version, 1 << 63)),
        revoked=typed(revoked, bool),
        regions=_regions(regions),
    )
    if len(record.digest) != 32 or not record.tenant or not record.expires_at >= 0:
        raise MessageError("not a key")
    return record


def _regions(names: object) -> tuple[str, ...] | None:
    return None if names is None else tuple(text(one) for one in several(names, REGIONS_MAX))
