"""Who leaves when room is short: the least value for its bytes, and nobody at another's expense.

Value is GreedyDual-Size-Frequency (Cherkasova, "Improving WWW Proxies Performance with
Greedy-Dual-Size-Frequency Caching Policy", HPL-98-69, 1998) with tokens for its cost:

    turn = age + (1 + hits) x tokens that a hit saves / bytes that it takes to keep

The lowest turn leaves first, and the age is the turn of what left last. So what is asked for once
passes by what was asked for again, and as the age rises it overtakes old fame: counted hits become
expected hits. Measured (bench/eviction.py): 3 to 8 points more of all tokens are saved than by LFU
with aging, which knows neither tokens nor bytes; to halve hits now and then besides gains half a
point where tastes change and costs as much or two where they do not, so that is left out. No clock
takes part, so none can upset it. A step is a descent in an index, however many entries there are.

Shares. Value alone would let a scope that writes much take all: what it writes is new, and what is
new has its life before it. So each scope has a share of the file, and two rules:

    While the largest scope has more than its share, room is taken from that scope.
    A newcomer whose scope has its share, and is not the largest, takes room from its own scope,
    unless it is seen for the second time: then somebody asks again for what had to leave.

A lone scope may have it all. When others come they get their share at once, and more, up to as
much as the largest, by proof of use. A flood of what nobody asks for again gets its share and then
displaces itself, while small scopes that use theirs compete by value. No newcomer is refused: one
that is not kept is not found by meaning either.

What is pinned leaves when all that is not has left, whatever its turn and its scope. No more than
half of the room can be pinned; what is pinned beyond that counts like everything else.

What each scope holds is a row of the table `room`, which triggers keep in the transaction of the
entries themselves, so it is right after every crash and costs no memory for any number of scopes.
"""

import sqlite3
from collections.abc import Sequence
from math import isfinite

from index.database import Transaction, pragma
from index.entry import Entry
from index.rows import as_bytes

_MARGIN = 32
"""One part in so many of `max_bytes` stays free: room for the group that is being written."""
_VICTIMS_MAX = 200
_FAME_MAX = 15
"""Hits that count: yesterday's fame leaves after fifteen turnovers."""
_SEEN_MAX = 32_768
"""Newcomers that are known again, 2.5 MB of them."""

Dues = dict[bytes, int]
"""Bytes, by scope, that it has to find within its own."""


def measure(connection: sqlite3.Connection) -> int:
    """Bytes of the file that are in use."""
    pages, free = pragma(connection, "page_count"), pragma(connection, "freelist_count")
    return (pages - free) * pragma(connection, "page_size")


class Room:
    """For the writer's thread alone."""

    def __init__(self, max_bytes: int, tenant_share: float) -> None:
        self.margin_bytes = max_bytes // _MARGIN
        self.limit_bytes = max_bytes - self.margin_bytes
        self.pinned_bytes_max = max_bytes // 2
        self._share_bytes = int(max_bytes * tenant_share)
        self.age = 0.0
        self._seen: dict[int, None] = {}

    def adopt(self, connection: sqlite3.Connection) -> None:
        """Go on where the file has come to: at the turn of who would leave next."""
        self.age = 0.0
        for _, _, turn, _ in _lowest(connection, self._over_share(connection), 1):
            self.age = turn

    def nearly_full(self, file_bytes: int) -> bool:
        return file_bytes > self.limit_bytes - self.margin_bytes

    def write_down_hits(
        self, connection: sqlite3.Connection, hits: Sequence[tuple[int, int]]
    ) -> None:
        """`hits`: id, and how often it was served since it was last written down."""
        connection.executemany(
            "UPDATE entry SET hits = hits + ?2, turn = ?3 + (1 + min(hits + ?2, ?4)) * worth"
            " WHERE id=?1",
            [(id_, count, self.age, _FAME_MAX) for id_, count in hits],
        )

    def dues(self, connection: sqlite3.Connection, newcomers: Sequence[tuple[Entry, int]]) -> Dues:
        """What the scopes of these, given with their bytes, owe for them. Remembers them."""
        largest, held = _largest(connection)[0], dict[bytes, int]()
        dues: Dues = {}
        for entry, nbytes in newcomers:
            scope = as_bytes(entry.scope)
            if scope not in held:
                held[scope] = _held(connection, scope)
            has_its_share = held[scope] > self._share_bytes and scope != largest
            if has_its_share and not self._seen_before(entry):
                dues[scope] = dues.get(scope, 0) + nbytes
        return dues

    def victims(self, connection: sqlite3.Connection, nbytes: int, dues: Dues) -> list[int]:
        """Who is to leave for about `nbytes`, `_VICTIMS_MAX` at most; what they leave is paid."""
        scope, wanted = next(iter(dues.items()), (self._over_share(connection), nbytes))
        lowest = _lowest(connection, scope, _VICTIMS_MAX)
        if scope is not None and not lowest:  # the count of it is rotten
            _recount(connection)
            dues.clear()
            return self.victims(connection, nbytes, dues)
        if scope is not None and lowest[0][3]:  # all that it has left is pinned: others go first
            lowest = _lowest(connection, None, _VICTIMS_MAX)
        ids, freed = [], 0
        for id_, size, turn, pinned in lowest:
            if pinned and not lowest[0][3]:
                break
            ids.append(id_)
            freed += size
            self.age = max(self.age, turn)
            if freed >= min(wanted, nbytes):
                break
        if scope in dues:
            dues[scope] -= freed
            if dues[scope] <= 0:
                del dues[scope]
        return ids

    def _over_share(self, connection: sqlite3.Connection) -> bytes | None:
        """The scope that yields before all others; None when the value of all decides."""
        scope, held = _largest(connection)
        return scope if held > self._share_bytes else None

    def _seen_before(self, entry: Entry) -> bool:
        mark = hash((entry.scope, entry.key))
        if mark in self._seen:
            return True
        self._seen[mark] = None
        if len(self._seen) > _SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        return False


def _largest(connection: sqlite3.Connection) -> tuple[bytes | None, int]:
    row = connection.execute("SELECT scope, bytes FROM room ORDER BY bytes DESC LIMIT 1").fetchone()
    return row or (None, 0)


def _held(connection: sqlite3.Connection, scope: bytes) -> int:
    row = connection.execute("SELECT bytes FROM room WHERE scope=?", (scope,)).fetchone()
    return row[0] if row else 0


def _recount(connection: sqlite3.Connection) -> None:
    with Transaction(connection):
        connection.execute("DELETE FROM room")
        connection.execute("INSERT INTO room SELECT scope, sum(size) FROM entry GROUP BY scope")


def _lowest(
    connection: sqlite3.Connection, scope: bytes | None, count: int
) -> list[tuple[int, int, float, bool]]:
    """id, size, turn and whether pinned of those to leave next: of `scope`, or of all."""
    among = "" if scope is None else "WHERE scope = ?1"
    rows = connection.execute(
        f"SELECT id, size, turn, pinned FROM entry {among} ORDER BY pinned, turn, id LIMIT ?2",
        (scope, count),
    )
    # No checksum proves these: what a flipped bit made no number of must not stop the eviction.
    return [
        (
            id_,
            size if isinstance(size, int) else 0,
            turn if isinstance(turn, float) and isfinite(turn) else 0.0,
            bool(pinned),
        )
        for id_, size, turn, pinned in rows.fetchall()
    ]
