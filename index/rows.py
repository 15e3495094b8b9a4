"""What an entry is on disk, and the checksum that says it still is.

SQLite notices a page of the wrong shape, not a page of the wrong content: `integrity_check` says
"ok" to a flipped bit inside an answer. So every row carries a BLAKE2b-128 of all that identifies,
dates and answers it, and no row is served before that was compared. Sixteen bytes rather than
CRC-32's four cost 4 us more for a 2 kB answer and leave nothing to luck.

Text is kept as bytes and every column's type is checked: a flipped bit may turn a blob into a
number, and must then be a row that is dropped, not an exception on the way of a request.

Bodies are not compressed. zlib saves 42 % of a 2 kB answer and 54 % of a 30 kB one, but costs
80-120 us to write and 20 us to read where the whole row costs 60 and 25; disk is the cheaper one.
"""

import hashlib
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.entry import CacheKey, Entry, PartitionKey, Purge, Question, Scope, Timestamp
from index.reading import packed

FORMAT = 3
"""Raised by whoever changes a table, a column or a checksum: other files are then set aside."""

_NUMBERS = struct.Struct("<qddqIIII")
_LENGTHS = struct.Struct("<HI")
"""Of a question's partition and text, which its packed reading follows."""
_OVERHEAD_BYTES = 400
"""What a row takes in the file besides its texts, body and vector (bench/store.py)."""
_TOKENS_A_BYTE = 0.25
"""Of an answer whose upstream did not say."""
_TOKENS_MAX = 1 << 24
"""No model reads or writes as many at once: whoever counted more did not count."""


class RottenRow(Exception):  # noqa: N818  a finding about the disk, not a fault of the caller
    """The bytes read are not the bytes written."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry under the number that its row, its vector and its place in memory share."""

    id: int
    entry: Entry


EntryColumns = tuple[int, bytes, bytes, bytes, float, float, int, int, float, bytes | None, bytes]
"""id, scope, key, model, stored_at, expires_at, size, tokens, worth, question, checksum."""


def encode(stored: Stored, vector_bytes: int = 0) -> EntryColumns:
    """The columns of `entry`; the body goes into its own table, so that counting stays cheap.

    `size` is what the entry takes in the file, with a vector of `vector_bytes`, about; `worth` is
    the tokens that one hit saves for each byte of it.
    """
    entry = stored.entry
    scope, model = as_bytes(entry.scope), as_bytes(entry.model)
    question = _question_bytes(entry.question, found=vector_bytes > 0)
    texts = len(scope) + len(entry.key) + len(model) + len(question or b"")
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
        checksum,
    )


def decode(columns: tuple[Any, ...]) -> Stored:
    """`columns`: id, scope, key, model, stored_at, expires_at, tokens, question, checksum, body."""
    try:
        id_, scope, key, model, stored_at, expires_at, tokens, question, checksum, body = columns
        if _entry_checksum(
            id_, scope, key, model, stored_at, expires_at, tokens, question, body
        ) != checksum or not isinstance(body, bytes):
            raise RottenRow(id_)
        entry = Entry(
            scope=Scope(_text(scope)),
            key=CacheKey(key),
            model=_text(model),
            body=body,
            stored_at=Timestamp(stored_at),
            expires_at=Timestamp(expires_at),
            question=None if question is None else _question(question),
            tokens=tokens,
        )
    except (TypeError, ValueError, struct.error) as exc:
        raise RottenRow(columns[0]) from exc
    return Stored(id_, entry)


def question_text(question: Any) -> tuple[str, bytes] | None:
    """Text and packed reading (`index.reading`) in a `question` column.

    The text is unproven: compare it with the entry's before serving.
    """
    try:
        return _question(question).text, question[
            _LENGTHS.size + sum(_LENGTHS.unpack_from(question)) :
        ]
    except (TypeError, ValueError, struct.error):
        return None


def encode_vector(
    id_: int, partition: bytes, vector: NDArray[np.float32]
) -> tuple[int, bytes, bytes, bytes]:
    """The columns of `vec`: id, partition, float16 values, checksum."""
    values = vector.astype(np.float16).tobytes()
    return id_, bytes(partition), values, _vector_checksum(id_, partition, values)


def decode_vectors(
    rows: Sequence[tuple[Any, ...]], dimensions: int
) -> tuple[list[int], NDArray[np.float32]]:
    """Which of `rows` (id, partition, emb, checksum) are sound, and their vectors (n, d).

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
        id_, partition, values, checksum = row
        size = dimensions * np.dtype(np.float16).itemsize
        return len(values) == size and _vector_checksum(id_, partition, values) == checksum
    except (TypeError, ValueError, struct.error):
        return False


def insert(
    connection: sqlite3.Connection, stored: Stored, vector: NDArray[np.float32] | None, age: float
) -> list[int]:
    """Store one entry in place of the one with its scope and key; the ids of what it replaced.

    `age` is that of the cache: index/room.py says what comes of it.
    """
    beside = None
    if vector is not None and stored.entry.question is not None:
        beside = encode_vector(stored.id, stored.entry.question.partition, vector)
    id_, scope, key, model, stored_at, expires_at, size, tokens, worth, question, checksum = encode(
        stored, len(beside[2]) if beside else 0
    )
    replaced = connection.execute("SELECT id FROM entry WHERE scope=? AND key=?", (scope, key))
    replaced_ids = [old for (old,) in replaced.fetchall()]
    delete(connection, replaced_ids)
    connection.execute(
        "INSERT INTO entry VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
        (
            *(id_, scope, key, model, stored_at, expires_at),
            *(size, tokens, worth, age + worth, question, checksum),
        ),
    )
    connection.execute("INSERT INTO body VALUES(?, ?)", (id_, stored.entry.body))
    if beside:
        connection.execute("INSERT INTO vec VALUES(?, ?, ?, ?)", beside)
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


def covered(purge: Purge, last_id: int) -> tuple[str, tuple[Any, ...]]:
    """The query for the ids that `purge` covers, and its values."""
    return (
        "SELECT id FROM entry WHERE id <= ?1 AND (?2 IS NULL OR scope = ?2)"
        " AND (?3 IS NULL OR model = ?3) AND (?4 IS NULL OR key = ?4)",
        (
            last_id,
            None if purge.scope is None else as_bytes(purge.scope),
            None if purge.model is None else as_bytes(purge.model),
            purge.key,
        ),
    )


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
    body: bytes,
) -> bytes:
    asked = b"" if question is None else b"?" + question
    digest = hashlib.blake2b(digest_size=16, person=b"promptedge/entry")
    digest.update(
        _NUMBERS.pack(
            id_, stored_at, expires_at, tokens, len(scope), len(key), len(model), len(asked)
        )
    )
    for part in (scope, key, model, asked, body):
        digest.update(part)
    return digest.digest()


def _vector_checksum(id_: int, partition: bytes, values: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16, person=b"promptedge/vec")
    digest.update(_NUMBERS.pack(id_, 0.0, 0.0, 0, len(partition), len(values), 0, 0))
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


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")
