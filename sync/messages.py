"""What nodes tell one another: values, and the payloads they travel as.

A payload is msgpack, arrays of known length all through, so that a field is told by its place and
nothing has a name to mistype. It is unpacked only after its signature was found good
(`sync.frames`), and even then with every size bounded, every type checked and nothing taken for
granted: who is enrolled may still be broken, or stolen. What comes out is a frozen dataclass;
whatever cannot become one is a `MessageError`, and no other exception.

Of 64 entries in a message most were fetched knowing the same purges, so each message lists what was
seen once and entries point into the list. One message holds entries of one scope and one reach:
who sends it on can tell from two fields whom it may go to.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar, assert_never

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
    Reach,
    Scope,
    Seen,
    Timestamp,
    Version,
)

PAYLOAD_BYTES_MAX = (1 << 20) - 256
"""With its header and signature a frame stays within 1 MiB, the limit of a NATS server."""
ENTRIES_MAX = 64
BODY_BYTES_MAX = 1_000_000
"""What fits into a frame of its own, with the rest of its entry."""
TEXT_CHARS_MAX = 16_384
"""Of a question; what is matched by meaning is far shorter (`index.eligibility`)."""
CODES_MAX = 4_096
NODES_MAX = 1_024
REGIONS_MAX = 64
NAME_CHARS_MAX = 256
"""Of scopes, models, labels, regions, addresses and nodes, each."""
GRANTS_MAX = 256
METERS_MAX = 8
TABLE_MAX = 1_024
"""Purges or enrolments in one message; there may be several messages."""
_TIME_MAX = 1e11
_UNITS_MAX = 1e12

T = TypeVar("T")


class MessageError(ValueError):
    """Bytes that are no message of ours. Its text names the reason and quotes nothing."""


class UnknownKind(MessageError):  # noqa: N818  reads as what happened
    """A kind of message that a later version may have, and this one has not."""


class Kind(IntEnum):
    ENTRIES = 1
    PURGED = 2
    ENROLMENTS = 3
    PRESENCE = 4
    TABLE = 5
    GRANTS = 6


class State(IntEnum):
    """Of a node, as it says itself."""

    JOINING = 1
    UP = 2
    LEAVING = 3


Item = tuple[Entry, Hint | None]


@dataclass(frozen=True, slots=True)
class Entries:
    """Answers of one scope and one reach, one at least; hints are of one encoder."""

    items: tuple[Item, ...]

    @property
    def scope(self) -> Scope:
        return self.items[0][0].scope

    @property
    def reach(self) -> Reach:
        return self.items[0][0].reach


@dataclass(frozen=True, slots=True)
class Enrolments:
    """Lines of the roster, of nodes and of API keys, each as the operator signed it
    (`sync.roster`)."""

    lines: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Presence:
    """I am here, and this is what I hold. Repeated; the newest of a node is the one that counts.

    `seen` is what confirms purges: it is told after they were applied and are on disk.
    """

    state: State
    address: str
    """Where its sync listener is reached; empty: it dials only."""
    encoder: str
    seen: Seen
    entries: int
    latest: Version
    """Where its log ends: how far there is to hear."""
    purges: int
    """Digest of all purges it knows: two that agree hold the same table."""
    roster: int
    """Digest of its roster."""


@dataclass(frozen=True, slots=True)
class Table:
    """Purges that somebody may lack, each in the frame of the node that made it.

    Whoever had applied all of a node's purges up to `after` has with these applied all up to
    `seen`: no gap remains.
    """

    after: Seen
    seen: Seen
    purges: tuple[bytes, ...]


Granted = tuple[float, float, float]
"""Of one limit: units granted since it was told last, units set aside for calls that run, units
asked for a second of late."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one node granted a tenant of what its plan allows on all of them."""

    tenant: str
    plan: str
    meters: tuple[Granted, ...]
    """By limit of the plan."""


@dataclass(frozen=True, slots=True)
class Grants:
    """What a node granted since it told last: heard now or never."""

    rows: tuple[Grant, ...]


Message = Entries | Purged | Enrolments | Presence | Table | Grants


def kind_of(message: Message) -> Kind:
    match message:
        case Entries():
            return Kind.ENTRIES
        case Purged():
            return Kind.PURGED
        case Enrolments():
            return Kind.ENROLMENTS
        case Presence():
            return Kind.PRESENCE
        case Table():
            return Kind.TABLE
        case Grants():
            return Kind.GRANTS
    assert_never(message)


def pack(message: Message) -> bytes:
    """The payload. Raises MessageError for what the other side would refuse."""
    try:
        payload: bytes = msgpack.packb(_columns(message))
    except (TypeError, ValueError, OverflowError) as exc:  # such as text that is no UTF-8
        raise MessageError("cannot be packed") from exc
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise MessageError("too large")
    return payload


def unpack(kind: int, payload: bytes, origin: NodeName, version: Version) -> Message:
    """The message in a frame of `origin` with that version. Raises MessageError."""
    columns = unpacked(payload)
    match kind:
        case Kind.ENTRIES:
            return _entries(columns)
        case Kind.PURGED:
            return _purged(columns, origin, version)
        case Kind.ENROLMENTS:
            (lines,) = exactly(columns, 1)
            return Enrolments(_blobs(lines))
        case Kind.PRESENCE:
            return _presence(columns)
        case Kind.TABLE:
            after, seen, purges = exactly(columns, 3)
            return Table(seen_of(after), seen_of(seen), _blobs(purges))
        case Kind.GRANTS:
            (rows,) = exactly(columns, 1)
            return Grants(tuple(_grant(row) for row in several(rows, GRANTS_MAX)))
        case _:
            raise UnknownKind("unknown kind")


def sayable(entry: Entry) -> bool:
    """Can it be told to others? What is too long, or was never dated, stays here."""
    question = entry.question
    return (
        len(entry.key) == 32
        and _named(entry.scope, entry.model, entry.stored_by, *entry.labels, *entry.reach)
        and len(entry.body) <= BODY_BYTES_MAX
        and 0 <= entry.stored_at < entry.expires_at < _TIME_MAX
        and (question is None or len(question.text) <= TEXT_CHARS_MAX)
        and (question is None or len(question.partition) == 32)
        and 0 <= entry.tokens < 1 << 32
        and 0 < entry.version < 1 << 63
        and len(entry.seen) <= NODES_MAX
        and len(entry.labels) <= LABELS_TOLD_MAX
        and 0 < len(entry.reach) <= REGIONS_MAX
    )


# Strictness, for whoever unpacks.


def unpacked(payload: bytes) -> Any:
    """msgpack to tuples, numbers, text and bytes, of bounded sizes."""
    try:
        return msgpack.unpackb(
            payload,
            use_list=False,
            max_array_len=2 * NODES_MAX,
            object_pairs_hook=_refuse,
            ext_hook=_refuse,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=4 * TEXT_CHARS_MAX,
            max_bin_len=1 << 20,
        )
    except ValueError as exc:  # msgpack's own errors are, and so are ours
        raise MessageError("not msgpack, or beyond its limits") from exc


def exactly(columns: Any, count: int) -> tuple[Any, ...]:
    if type(columns) is not tuple or len(columns) != count:
        raise MessageError("not the fields expected")
    return columns


def typed(value: Any, kind: type[T]) -> T:
    """`value` if it is of just that type: True is no int here."""
    if type(value) is not kind:
        raise MessageError(f"not of type {kind.__name__}")
    return value


def text(value: Any, chars_max: int = NAME_CHARS_MAX) -> str:
    if len(typed(value, str)) > chars_max:
        raise MessageError("text too long")
    return str(value)


def number(value: Any, below: int = 1 << 64) -> int:
    if not 0 <= typed(value, int) < below:
        raise MessageError("number out of range")
    return int(value)


def several(value: Any, count_max: int) -> tuple[Any, ...]:
    if len(typed(value, tuple)) > count_max:
        raise MessageError("too many")
    return tuple(value)


def seen_of(columns: Any) -> Seen:
    pairs = [exactly(pair, 2) for pair in several(columns, NODES_MAX)]
    return tuple((NodeName(text(by)), Version(number(version, 1 << 63))) for by, version in pairs)


# Columns.


def _columns(message: Message) -> tuple[Any, ...]:
    match message:
        case Entries():
            return _entries_columns(message)
        case Purged():
            purge = message.purge
            return purge.scope, purge.label, purge.key, message.previous, message.soft
        case Enrolments():
            return (message.lines,)
        case Presence():
            return tuple(getattr(message, name) for name in message.__slots__)
        case Table():
            return message.after, message.seen, message.purges
        case Grants():
            return ([(one.tenant, one.plan, one.meters) for one in message.rows],)
    assert_never(message)


def _entries_columns(message: Entries) -> tuple[Any, ...]:
    if not 0 < len(message.items) <= ENTRIES_MAX:
        raise MessageError("none, or too many entries")
    scope, reach = message.scope, message.reach
    if any(
        entry.scope != scope or entry.reach != reach or not sayable(entry)
        for entry, _ in message.items
    ):
        raise MessageError("not to be told, or not together")
    encoders = {hint.encoder for _, hint in message.items if hint is not None}
    if len(encoders) > 1:
        raise MessageError("hints of several encoders")
    seens: dict[Seen, int] = {}
    rows = [
        (
            entry.key,
            entry.model,
            entry.body,
            float(entry.stored_at),
            float(entry.expires_at),
            entry.question and (entry.question.partition, entry.question.text),
            entry.tokens,
            entry.stored_by,
            entry.version,
            seens.setdefault(entry.seen, len(seens)),
            entry.labels,
            entry.pinned,
            hint and hint.codes,
        )
        for entry, hint in message.items
    ]
    return scope, reach, "".join(encoders), tuple(seens), rows


def _entries(columns: Any) -> Entries:
    scope, reach, encoder, seens, rows = exactly(columns, 5)
    scope, encoder = Scope(text(scope)), text(encoder)
    reach = tuple(text(region) for region in several(reach, REGIONS_MAX))
    seens = [seen_of(seen) for seen in several(seens, ENTRIES_MAX)]
    if not several(rows, ENTRIES_MAX):
        raise MessageError("no entries")
    return Entries(tuple(_item(row, scope, reach, encoder, seens) for row in rows))


def _item(row: Any, scope: Scope, reach: Reach, encoder: str, seens: list[Seen]) -> Item:
    key, model, body, stored_at, expires_at, question, tokens, by, version, seen, *rest = exactly(
        row, 13
    )
    labels, pinned, codes = rest
    if number(seen) >= len(seens):
        raise MessageError("number out of range")
    entry = Entry(
        scope=scope,
        key=CacheKey(typed(key, bytes)),
        model=typed(model, str),
        body=typed(body, bytes),
        stored_at=Timestamp(typed(stored_at, float)),
        expires_at=Timestamp(typed(expires_at, float)),
        question=None if question is None else _question(question),
        tokens=typed(tokens, int),
        stored_by=NodeName(typed(by, str)),
        version=Version(typed(version, int)),
        seen=seens[seen],
        reach=reach,
        labels=tuple(typed(label, str) for label in several(labels, LABELS_TOLD_MAX)),
        pinned=typed(pinned, bool),
    )
    if not sayable(entry):
        raise MessageError("an entry out of bounds")
    if codes is None:
        return entry, None
    if len(typed(codes, bytes)) > CODES_MAX:
        raise MessageError("too many dimensions")
    return entry, Hint(encoder, codes)


def _question(columns: Any) -> Question:
    partition, words = exactly(columns, 2)
    return Question(PartitionKey(typed(partition, bytes)), typed(words, str))


def _purged(columns: Any, by: NodeName, version: Version) -> Purged:
    scope, label, key, previous, soft = exactly(columns, 5)
    purge = Purge(
        None if scope is None else Scope(text(scope)),
        None if label is None else text(label),
        None if key is None else CacheKey(typed(key, bytes)),
    )
    if key is not None and len(key) != 32:
        raise MessageError("not a key")
    return Purged(purge, by, version, Version(number(previous, version)), typed(soft, bool))


def _presence(columns: Any) -> Presence:
    state, address, encoder, seen, entries, latest, purges, roster = exactly(columns, 8)
    try:
        state = State(typed(state, int))
    except ValueError as exc:
        raise MessageError("unknown state") from exc
    return Presence(
        state,
        text(address),
        text(encoder),
        seen_of(seen),
        number(entries),
        Version(number(latest, 1 << 63)),
        number(purges),
        number(roster),
    )


def _grant(columns: Any) -> Grant:
    tenant, plan, meters = exactly(columns, 3)
    granted = [exactly(meter, 3) for meter in several(meters, METERS_MAX)]
    return Grant(
        text(tenant),
        text(plan),
        tuple((_units(spent), _units(held), _units(asked)) for spent, held, asked in granted),
    )


def _units(value: Any) -> float:
    if not 0.0 <= typed(value, float) < _UNITS_MAX:
        raise MessageError("number out of range")
    return float(value)


def _blobs(columns: Any) -> tuple[bytes, ...]:
    return tuple(typed(blob, bytes) for blob in several(columns, TABLE_MAX))


def _named(*names: str) -> bool:
    return all(0 < len(name) <= NAME_CHARS_MAX for name in names)


def _refuse(*_: Any) -> Any:
    raise MessageError("neither maps nor extensions")
