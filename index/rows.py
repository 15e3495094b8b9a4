"""What an entry is on disk, and the checksum that says it still is.

SQLite notices a page of the wrong shape, not a page of the wrong content: `integrity_check` says
"ok" to a flipped bit inside an answer. So every row carries a BLAKE2b-128 of all that identifies,
dates and answers it, and no row is served before that was compared. Sixteen bytes rather than
CRC-32's four cost 4 us more for a 2 kB answer and leave nothing to luck.

Text is kept as bytes and every column's type is checked: a flipped bit may turn a blob into a
number, and must then be a row that is dropped, not an exception on the way of a request.

Who fetched an answer, when, knowing which purges, how far it may travel and what it may be purged
by are one column, `origin`, in MessagePack: some 60 bytes with one node's purges known, 25 more for
each further one. Strings are in it as they are, so that a purge by label looks for the bytes and
unpacks what has them.

Bodies are not compressed. zlib saves 42 % of a 2 kB answer and 54 % of a 30 kB one, but costs
80-120 us to write and 20 us to read where the whole row costs 60 and 25; disk is the cheaper one.
"""

import hashlib
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from index.entry import (
    CacheKey,
    Entry,
    NodeName,
    PartitionKey,
    Purge,
    Question,
    Scope,
    Seen,
    Timestamp,
    Version,
)
from index.reading import packed

FORMAT = 4
"""Raised by whoever changes a table, a column or a checksum: other files are then set aside."""

_NUMBERS = struct.Struct("<qddqIIIII")
_LENGTHS = struct.Struct("<HI")
"""Of a question's partition and text, which its packed reading follows."""
_OVERHEAD_BYTES = 400
"""What a row takes in the file besides its texts, body and vector (bench/store.py)."""
_TOKENS_A_BYTE = 0.25
"""Of an answer whose upstream did not say."""
_TOKENS_MAX = 1 << 24
"""No model reads or writes as many at once: whoever counted more did not count."""


COLUMNS = (
    "e.id, e.scope, e.key, e.model, e.stored_at, e.expires_at, e.tokens, e.question, e.origin,"
    " e.checksum, b.body"
)
"""What `decode` wants of the tables entry e and body b."""

_ROTTEN = (TypeError, ValueError, struct.error, msgpack.UnpackException)


class RottenRow(Exception):  # noqa: N818  a finding about the disk, not a fault of the caller
    """The bytes read are not the bytes written."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry under the number that its row, its vector and its place in memory share."""

    id: int
    entry: Entry


EntryColumns = tuple[
    int, bytes, bytes, bytes, float, float, int, int, float, bytes | None, bytes, bytes
]
"""id, scope, key, model, stored_at, expires_at, size, tokens, worth, question, origin, checksum."""


def encode(stored: Stored, vector_bytes: int = 0, *, found: bool = False) -> EntryColumns:
    """The columns of `entry`; the body goes into its own table, so that counting stays cheap.

    `size` is what the entry takes in the file, with a vector of `vector_bytes`, about; `worth` is
    the tokens that one hit saves for each byte of it. What is `found` by meaning has the reading
    of its question beside it.
    """
    entry = stored.entry
    scope, model = as_bytes(entry.scope), as_bytes(entry.model)
    question = _question_bytes(entry.question, found=found)
    origin = _origin_bytes(entry)
    texts = len(scope) + len(entry.key) + len(model) + len(question or b"") + len(origin)
    size = texts + len(entry.body) + vector_bytes + _OVERHEAD_BYTES
    tokens = entry.tokens if 0 < entry.tokens <= _TOKENS_MAX else 0
    checksum = _entry_checksum(
        stored.id,
        scope,
        entry.key,
        model,
        entry.stored_at,
        entry.expires_at,
        tokens,
        question,
        origin,
        entry.body,
    )
    return (
        stored.id,
        scope,
        entry.key,
        model,
        entry.stored_at,
        entry.expires_at,
        size,
        tokens,
        (tokens or _TOKENS_A_BYTE * len(entry.body)) / size,
        question,
        origin,
        checksum,
    )


def decode(columns: tuple[Any, ...]) -> Stored:
    """`columns`: those of `COLUMNS`."""
    try:
        id_, scope, key, model, stored_at, expires_at = columns[:6]
        tokens, question, origin, checksum, body = columns[6:]
        if _entry_checksum(
            id_, scope, key, model, stored_at, expires_at, tokens, question, origin, body
        ) != checksum or not isinstance(body, bytes):
            raise RottenRow(id_)
        stored_by, version, seen, reach, labels, pinned = _origin(origin)
        entry = Entry(
            scope=Scope(_text(scope)),
            key=CacheKey(key),
            model=_text(model),
            body=body,
            stored_at=Timestamp(stored_at),
            expires_at=Timestamp(expires_at),
            question=None if question is None else _question(question),
            tokens=tokens,
            stored_by=stored_by,
            version=version,
            seen=seen,
            reach=reach,
            labels=labels,
            pinned=pinned,
        )
    except _ROTTEN as exc:
        raise RottenRow(columns[0]) from exc
    return Stored(id_, entry)


def question_of(blob: Any) -> Question | None:
    """What is in a `question` column, unproven; None if it is rotten."""
    try:
        return _question(blob)
    except _ROTTEN:
        return None


def question_text(question: Any) -> tuple[str, bytes] | None:
    """Text and packed reading (`index.reading`) in a `question` column.

    The text is unproven: compare it with the entry's before serving.
    """
    try:
        return _question(question).text, question[
            _LENGTHS.size + sum(_LENGTHS.unpack_from(question)) :
        ]
    except _ROTTEN:
        return None


def encode_vector(
    id_: int, partition: bytes, vector: NDArray[np.float32], *, proven: bool
) -> tuple[int, bytes, bytes, int, bytes]:
    """The columns of `vec`: id, partition, float16 values, whether proven, checksum."""
    values = vector.astype(np.float16).tobytes()
    checksum = _vector_checksum(id_, partition, values, proven)
    return id_, bytes(partition), values, int(proven), checksum


def decode_vectors(
    rows: Sequence[tuple[Any, ...]], dimensions: int
) -> tuple[list[int], NDArray[np.float32]]:
    """Which of `rows` (id, partition, emb, proven, checksum) are sound, and their vectors (n, d).

    Many at once, as a start reads them all; of float16 values, unit length again (see `rounded`).
    """
    whole = [at for at, row in enumerate(rows) if _whole(row, dimensions)]
    values = b"".join(rows[at][2] for at in whole)
    single = np.frombuffer(values, np.float16).reshape(len(whole), dimensions).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what infinities make of it
        sound = np.abs(np.einsum("ij,ij->i", single, single) - 1) < 0.05  # nor is NaN
    kept = [at for at, good in zip(whole, sound.tolist(), strict=True) if good]
    return kept, _unit(single[sound] if len(kept) < len(whole) else single)


def _whole(row: tuple[Any, ...], dimensions: int) -> bool:
    try:
        id_, partition, values, proven, checksum = row
        size = dimensions * np.dtype(np.float16).itemsize
        return len(values) == size and (
            _vector_checksum(id_, partition, values, proven) == checksum
        )
    except _ROTTEN:
        return False


def insert(
    connection: sqlite3.Connection,
    stored: Stored,
    vector: NDArray[np.float32] | None,
    *,
    proven: bool,
    age: float,
    pinned_bytes_max: int,
) -> list[int]:
    """Store one entry in place of the one with its scope and key; the ids of what it replaced.

    `proven`: the vector was made here. `age` is that of the cache, and what is pinned beyond
    `pinned_bytes_max` is kept like everything else: index/room.py says what comes of both.
    """
    beside = None
    if vector is not None and stored.entry.question is not None:
        partition = stored.entry.question.partition
        beside = encode_vector(stored.id, partition, vector, proven=proven)
    nbytes = len(beside[2]) if beside else 0
    columns: tuple[Any, ...] = encode(stored, nbytes, found=beside is not None and proven)
    id_, scope, key, model, stored_at, expires_at, size, tokens, worth, *rest = columns
    question, origin, checksum = rest
    pinned = stored.entry.pinned and _pinned_bytes(connection) + size <= pinned_bytes_max
    replaced = connection.execute("SELECT id FROM entry WHERE scope=? AND key=?", (scope, key))
    replaced_ids = [old for (old,) in replaced.fetchall()]
    delete(connection, replaced_ids)
    connection.execute(
        "INSERT INTO entry VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?)",
        (
            *(id_, scope, key, model, stored_at, expires_at),
            *(size, tokens, worth, age + worth, int(pinned), question, origin, checksum),
        ),
    )
    connection.execute("INSERT INTO body VALUES(?, ?)", (id_, stored.entry.body))
    if beside:
        connection.execute("INSERT INTO vec VALUES(?, ?, ?, ?, ?)", beside)
    return replaced_ids


def delete(connection: sqlite3.Connection, ids: Sequence[int]) -> int:
    """Delete entries with their bodies and vectors; how many there were."""
    if not ids:
        return 0
    rows = [(id_,) for id_ in ids]
    count = connection.executemany("DELETE FROM entry WHERE id=?", rows).rowcount
    connection.executemany("DELETE FROM body WHERE id=?", rows)
    connection.executemany("DELETE FROM vec WHERE id=?", rows)
    return count


def candidates(purge: Purge) -> tuple[str, tuple[Any, ...]]:
    """The condition, with its values, for the rows of `entry` that `purge` may cover.

    All that it covers are among them, and few others; without a label, none.
    """
    wanted: list[tuple[str, tuple[Any, ...]]] = []
    if purge.scope is not None:
        wanted.append(("scope = ?", (as_bytes(purge.scope),)))
    if purge.key is not None:
        wanted.append(("key = ?", (purge.key,)))
    if purge.label is not None:
        label, (kind, _, name) = as_bytes(purge.label), purge.label.partition(":")
        match kind:
            case "model":
                wanted.append(("(model = ? OR instr(origin, ?))", (as_bytes(name), label)))
            case "by":
                wanted.append(("instr(origin, ?)", (as_bytes(name),)))
            case _:
                wanted.append(("instr(origin, ?)", (label,)))
    conditions = " AND ".join(condition for condition, _ in wanted) or "1"
    return conditions, tuple(value for _, values in wanted for value in values)


def outline(columns: tuple[Any, ...]) -> Stored | None:
    """What a purge asks of a row, from `id, scope, key, model, origin`; None if it is rotten.

    Unproven, and never to be served: the rest of the entry is missing.
    """
    try:
        id_, scope, key, model, origin = columns
        stored_by, version, seen, reach, labels, pinned = _origin(origin)
        entry = Entry(
            Scope(_text(scope)), CacheKey(key), _text(model), b"", Timestamp(0), Timestamp(0), None,
            0, stored_by, version, seen, reach, labels, pinned,
        )  # fmt: skip
    except _ROTTEN:
        return None
    return Stored(id_, entry)


def rounded(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Vectors as they come back from disk: float16 values, unit length again; (d,) or (n, d).

    Used before a restart as well, so that a restart changes no similarity and no decision.
    """
    return _unit(vectors.astype(np.float16).astype(np.float32))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.square(vectors).sum(axis=-1, keepdims=True))
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit


def _entry_checksum(
    id_: int,
    scope: bytes,
    key: bytes,
    model: bytes,
    stored_at: float,
    expires_at: float,
    tokens: int,
    question: bytes | None,
    origin: bytes,
    body: bytes,
) -> bytes:
    asked = b"" if question is None else b"?" + question
    digest = hashlib.blake2b(digest_size=16, person=b"promptedge/entry")
    digest.update(
        _NUMBERS.pack(
            *(id_, stored_at, expires_at, tokens),
            *(len(scope), len(key), len(model), len(asked), len(origin)),
        )
    )
    for part in (scope, key, model, asked, origin, body):
        digest.update(part)
    return digest.digest()


def _vector_checksum(id_: int, partition: bytes, values: bytes, proven: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16, person=b"promptedge/vec")
    digest.update(_NUMBERS.pack(id_, 0.0, 0.0, proven, len(partition), len(values), 0, 0, 0))
    digest.update(partition)
    digest.update(values)
    return digest.digest()


def _question_bytes(question: Question | None, *, found: bool) -> bytes | None:
    """`found`: by meaning, so that its reading will be wanted."""
    if question is None:
        return None
    text = as_bytes(question.text)
    lengths = _LENGTHS.pack(len(question.partition), len(text))
    return lengths + question.partition + text + (packed(question.text) if found else b"")


def _question(blob: bytes) -> Question:
    partition, text = _LENGTHS.unpack_from(blob)
    start = _LENGTHS.size + partition
    return Question(PartitionKey(blob[_LENGTHS.size : start]), _text(blob[start : start + text]))


def _origin_bytes(entry: Entry) -> bytes:
    blob: bytes = msgpack.packb(
        (
            entry.stored_by,
            entry.version,
            _seen_bytes(entry.seen),
            entry.reach,
            entry.labels,
            entry.pinned,
        ),
        unicode_errors="surrogatepass",
    )
    return blob


_Origin = tuple[NodeName, Version, Seen, tuple[str, ...], tuple[str, ...], bool]


def _origin(blob: bytes) -> _Origin:
    """Raises one of `_ROTTEN`."""
    stored_by, version, seen, reach, labels, pinned = msgpack.unpackb(
        blob, use_list=False, unicode_errors="surrogatepass"
    )
    if not (isinstance(stored_by, str) and isinstance(version, int) and isinstance(labels, tuple)):
        raise TypeError(blob)
    return stored_by, version, _seen(seen), reach, labels, pinned  # type: ignore[return-value]


@lru_cache(maxsize=64)
def _seen_bytes(seen: Seen) -> bytes:
    blob: bytes = msgpack.packb(seen)
    return blob


@lru_cache(maxsize=4096)
def _seen(blob: bytes) -> Seen:
    """Many entries share what was known when they were fetched: one tuple for all of them."""
    unpacked = msgpack.unpackb(blob, use_list=False)
    return tuple((NodeName(str(by)), Version(int(version))) for by, version in unpacked)


def _pinned_bytes(connection: sqlite3.Connection) -> int:
    (nbytes,) = connection.execute("SELECT bytes FROM pinned").fetchone()
    return int(nbytes)


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")
