"""What a node remembers, as a stream of bytes: for a backup, another node, object storage.

    promptedge snapshot 1 <fleet>\r\n     the format's version, and whose it is
    length 4 B | record | tag 16 B        and again, until the record that closes it

A record is msgpack: the header first, then all purges, then answers with what their vectors were
when they were written, then the trailer with the counts of both. It is written and read in one
pass, without seeking, so that either end may be a pipe; compression is the pipe's business.

A tag is a BLAKE2b over *everything* up to it, keyed with the secret of the fleet. So what is read
is known to be what a node of this fleet wrote, in that order, before it is unpacked or used: a bit
that flipped, a part cut out, a record from elsewhere, a file that somebody made, all end the
reading there and then, and what was read before is still good. That it is complete is known from
the trailer alone. Another fleet could do nothing with it anyhow: keys are made with that secret.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, assert_never

import msgpack

from index.entry import (
    LABELS_TOLD_MAX,
    CacheKey,
    Entry,
    Hint,
    NodeName,
    PartitionKey,
    Purge,
    Purged,
    Question,
    Scope,
    Seen,
    Timestamp,
    Version,
)
from sync.messages import (
    CODES_MAX,
    NODES_MAX,
    REGIONS_MAX,
    MessageError,
    exactly,
    number,
    several,
    text,
    typed,
)

FORMAT = 1
MAGIC = b"promptedge snapshot "
MEDIA_TYPE = "application/vnd.promptedge.snapshot"
RECORD_BYTES_MAX = 72 * 1024 * 1024
"""The largest answer that a node may be set to keep, and its question."""
_LINE_BYTES_MAX = 64
_LENGTH = 4
_TAG = 16
_TIME_MAX = 1e11
_HEADER, _PURGED, _ENTRY, _TRAILER = range(1, 5)


class SnapshotError(Exception):
    """It cannot be read, or not any further. The message says what it is, for people."""


@dataclass(frozen=True, slots=True)
class Header:
    """Where a snapshot comes from."""

    node: str
    encoder: str
    """Fingerprint of what its vectors were made with; empty: it has none."""
    written_at: Timestamp
    seen: Seen
    """The purges that its node had applied: all of them follow."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer, and its question's vector if there is one."""

    entry: Entry
    hint: Hint | None = None


@dataclass(frozen=True, slots=True)
class Trailer:
    entries: int
    purges: int


Record = Header | Purged | Kept | Trailer


def fleet_of(secret: bytes) -> str:
    """The name of whoever has this secret; it does not tell the secret."""
    return blake2b(key=secret, digest_size=8, person=b"pe snapshot name").hexdigest()


class _Seal:
    """The tags of one snapshot, in order."""

    def __init__(self, secret: bytes, line: bytes) -> None:
        self._digest = blake2b(line, key=secret, digest_size=_TAG, person=b"pe snapshot tag")

    def tag(self, framed: bytes) -> bytes:
        self._digest.update(framed)
        return self._digest.copy().digest()


class SnapshotWriter:
    """Turns records into bytes: `begin` first, `end` last."""

    def __init__(self, secret: bytes) -> None:
        self._line = b"%s%d %s\r\n" % (MAGIC, FORMAT, fleet_of(secret).encode())
        self._seal = _Seal(secret, self._line)
        self.entries = self.purges = 0

    def begin(self, header: Header) -> bytes:
        return self._line + self._framed(_packed(header))

    def record(self, record: Purged | Kept) -> bytes:
        """Nothing for what cannot be written, such as text that is no UTF-8: it is not counted."""
        try:
            payload = _packed(record)
        except (TypeError, ValueError, OverflowError):
            return b""
        if len(payload) > RECORD_BYTES_MAX:
            return b""
        self.entries += isinstance(record, Kept)
        self.purges += isinstance(record, Purged)
        return self._framed(payload)

    def end(self) -> bytes:
        return self._framed(_packed(Trailer(self.entries, self.purges)))

    def _framed(self, payload: bytes) -> bytes:
        framed = len(payload).to_bytes(_LENGTH) + payload
        return framed + self._seal.tag(framed)


class SnapshotReader:
    """Turns bytes, in whatever parts they come, into the records that are good."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._seal: _Seal | None = None
        self._buffer = bytearray()
        self._position = 0
        """Of the buffer's beginning, in the stream."""
        self.entries = self.purges = 0
        self.complete = False

    def feed(self, data: bytes) -> Iterator[Record]:
        """The records that end in `data`. To be iterated to the end; after an error, no more.

        Raises:
            SnapshotError: this or what follows cannot be used.
        """
        self._buffer += data
        if self._seal is None and not self._begun():
            return
        while (payload := self._next()) is not None:
            yield self._counted(_unpacked(payload, self._position))

    def close(self) -> None:
        """There is no more. Raises SnapshotError unless it was all there."""
        if not self.complete:
            read = self._position + len(self._buffer)
            raise SnapshotError(f"the snapshot is cut off after {read} bytes")

    def _begun(self) -> bool:
        """Has the first line come, and may we read on?"""
        head = bytes(self._buffer[:_LINE_BYTES_MAX])
        if not (head.startswith(MAGIC) or MAGIC.startswith(head)):
            raise SnapshotError("this is no snapshot of a promptedge node")
        end = head.find(b"\r\n")
        if end < 0:
            if len(head) == _LINE_BYTES_MAX or b"\n" in head:
                raise SnapshotError("this snapshot was damaged on its way: was it sent as text?")
            return False
        version, _, fleet = head[len(MAGIC) : end].partition(b" ")
        if version.isdigit() and int(version) > FORMAT:
            raise SnapshotError(
                f"the snapshot has format {int(version)} and this node reads {FORMAT}:"
                " a newer version is needed"
            )
        if version != b"%d" % FORMAT:
            raise SnapshotError("this snapshot's first line is damaged")
        if fleet != fleet_of(self._secret).encode():
            raise SnapshotError("the snapshot is of another fleet: it was made with another secret")
        self._seal = _Seal(self._secret, head[: end + 2])
        self._take(end + 2)
        return True

    def _next(self) -> bytes | None:
        """The payload of the next record, if it is here and what was written."""
        if self.complete and self._buffer:
            raise SnapshotError(f"something follows the end of the snapshot{self._where()}")
        length = int.from_bytes(self._buffer[:_LENGTH])
        if length > RECORD_BYTES_MAX:
            raise SnapshotError(f"the snapshot is damaged{self._where()}")
        end = _LENGTH + length
        if len(self._buffer) < end + _TAG:
            return None
        framed, tag = bytes(self._buffer[:end]), bytes(self._buffer[end : end + _TAG])
        assert self._seal is not None
        if self._seal.tag(framed) != tag:
            raise SnapshotError(f"the snapshot is damaged{self._where()}")
        self._take(end + _TAG)
        return framed[_LENGTH:]

    def _counted(self, record: Record) -> Record:
        self.entries += isinstance(record, Kept)
        self.purges += isinstance(record, Purged)
        if isinstance(record, Trailer):
            if record != Trailer(self.entries, self.purges):
                raise SnapshotError("the snapshot's counts are not those of its records")
            self.complete = True
        return record

    def _take(self, count: int) -> None:
        del self._buffer[:count]
        self._position += count

    def _where(self) -> str:
        return f" at byte {self._position}"


def _packed(record: Record) -> bytes:
    packed: bytes = msgpack.packb(_fields(record))
    return packed


def _fields(record: Record) -> tuple[Any, ...]:
    match record:
        case Header():
            return _HEADER, record.node, record.encoder, record.written_at, record.seen
        case Purged():
            what = (record.purge.scope, record.purge.label, record.purge.key)
            return _PURGED, *what, record.by, record.version, record.previous, record.soft
        case Kept():
            return _ENTRY, *_entry_fields(record)
        case Trailer():
            return _TRAILER, record.entries, record.purges
    assert_never(record)


def _entry_fields(kept: Kept) -> tuple[Any, ...]:
    entry, hint = kept.entry, kept.hint
    return (
        entry.scope,
        entry.key,
        entry.model,
        entry.body,
        entry.stored_at,
        entry.expires_at,
        entry.question and (entry.question.partition, entry.question.text),
        entry.tokens,
        entry.stored_by,
        entry.version,
        entry.seen,
        entry.reach,
        entry.labels,
        entry.pinned,
        hint and (hint.encoder, hint.codes),
    )


def _unpacked(payload: bytes, position: int) -> Record:
    """What one of our fleet wrote is trusted, and yet every size and type is looked at."""
    try:
        kind, *fields = typed(_values(payload), tuple)
        match kind:
            case 1:
                node, encoder, written_at, seen = exactly(tuple(fields), 4)
                return Header(text(node), text(encoder), _time(written_at), _seen(seen))
            case 2:
                return _purged(tuple(fields))
            case 3:
                return _kept(tuple(fields))
            case 4:
                entries, purges = exactly(tuple(fields), 2)
                return Trailer(number(entries), number(purges))
            case _:
                pass
    except (MessageError, ValueError) as exc:
        raise SnapshotError(f"a record before byte {position} cannot be read") from exc
    raise SnapshotError(f"a record before byte {position} is of a kind that is not known")


def _values(payload: bytes) -> Any:
    return msgpack.unpackb(
        payload,
        use_list=False,
        max_array_len=2 * NODES_MAX,
        max_map_len=0,
        max_ext_len=0,
        max_bin_len=RECORD_BYTES_MAX,
        max_str_len=RECORD_BYTES_MAX,
    )


def _purged(fields: tuple[Any, ...]) -> Purged:
    scope, label, key, by, version, previous, soft = exactly(fields, 7)
    purge = Purge(
        None if scope is None else Scope(text(scope)),
        None if label is None else text(label),
        None if key is None else CacheKey(typed(key, bytes)),
    )
    made, before = Version(number(version, 1 << 63)), Version(number(previous, 1 << 63))
    return Purged(purge, NodeName(text(by)), made, before, typed(soft, bool))


def _kept(fields: tuple[Any, ...]) -> Kept:
    scope, key, model, body, stored_at, expires_at, question, tokens, *rest = exactly(fields, 15)
    stored_by, version, seen, reach, labels, pinned, hint = rest
    entry = Entry(
        scope=Scope(text(scope)),
        key=CacheKey(typed(key, bytes)),
        model=text(model),
        body=typed(body, bytes),
        stored_at=_time(stored_at),
        expires_at=_time(expires_at),
        question=None if question is None else _question(question),
        tokens=number(tokens, 1 << 32),
        stored_by=NodeName(text(stored_by)),
        version=Version(number(version, 1 << 63)),
        seen=_seen(seen),
        reach=tuple(text(region) for region in several(reach, REGIONS_MAX)),
        labels=tuple(text(label) for label in several(labels, LABELS_TOLD_MAX)),
        pinned=typed(pinned, bool),
    )
    return Kept(entry, None if hint is None else _hint(hint))


def _question(columns: Any) -> Question:
    partition, words = exactly(columns, 2)
    return Question(PartitionKey(typed(partition, bytes)), typed(words, str))


def _hint(columns: Any) -> Hint:
    encoder, codes = exactly(columns, 2)
    if len(typed(codes, bytes)) > CODES_MAX:
        raise MessageError("too many dimensions")
    return Hint(text(encoder), codes)


def _seen(columns: Any) -> Seen:
    pairs = [exactly(pair, 2) for pair in several(columns, NODES_MAX)]
    return tuple((NodeName(text(by)), Version(number(version, 1 << 63))) for by, version in pairs)


def _time(value: Any) -> Timestamp:
    if not 0 <= typed(value, float) < _TIME_MAX:
        raise MessageError("a time out of range")
    return Timestamp(value)
