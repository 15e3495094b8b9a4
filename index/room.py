"""Who leaves when room is short. For the writer's thread alone.

Eviction is LFU with dynamic aging (Arlitt et al., "Evaluating content management techniques for
Web proxy caches", 1999; Squid's heap LFUDA): an entry's `turn` is the age of the cache when it was
last wanted, plus its hits; the lowest turn goes first, and the cache's age is the turn of what went
last. A flood of answers asked for once passes by those asked for twice, yet fame fades with each
turnover. No clock takes part, so none can upset it.
"""

import sqlite3
from collections.abc import Sequence

from index.database import pragma

_MARGIN = 32
"""One part in so many of `max_bytes` stays free: room for the group that is being written."""
_VICTIMS_MAX = 200
_FAME_MAX = 15
"""Turns that hits can buy: yesterday's fame leaves after fifteen turnovers."""


def measure(connection: sqlite3.Connection) -> int:
    """Bytes of the file that are in use."""
    pages, free = pragma(connection, "page_count"), pragma(connection, "freelist_count")
    return (pages - free) * pragma(connection, "page_size")


class Room:
    def __init__(self, max_bytes: int) -> None:
        self.margin_bytes = max_bytes // _MARGIN
        self.limit_bytes = max_bytes - self.margin_bytes
        self._age = 0

    def adopt(self, connection: sqlite3.Connection) -> None:
        """Go on where the file has come to."""
        (self._age,) = connection.execute("SELECT ifnull(min(turn), 0) FROM entry").fetchone()

    def nearly_full(self, file_bytes: int) -> bool:
        return file_bytes > self.limit_bytes - self.margin_bytes

    @property
    def first_turn(self) -> int:
        return self._age + 1

    def write_down_hits(
        self, connection: sqlite3.Connection, hits: Sequence[tuple[int, int]]
    ) -> None:
        """`hits`: id, and how often it was served since it was last written down."""
        connection.executemany(
            "UPDATE entry SET hits = hits + ?2, turn = ?3 + min(hits + ?2, ?4) WHERE id=?1",
            [(id_, count, self._age + 1, _FAME_MAX) for id_, count in hits],
        )

    def victims(self, connection: sqlite3.Connection, nbytes: int) -> list[int]:
        """Whose turn it is to leave for about `nbytes`, `_VICTIMS_MAX` at most."""
        ids: list[int] = []
        lowest = connection.execute(
            "SELECT id, size, turn FROM entry ORDER BY turn, id LIMIT ?", (_VICTIMS_MAX,)
        )
        for id_, size, turn in lowest.fetchall():
            ids.append(id_)
            self._age = max(self._age, turn)
            nbytes -= size
            if nbytes <= 0:
                break
        return ids
