"""What a node must not forget about its fleet, in `fleet.db`: SQLite, a few small tables.

    log ...... frames to be told to others, by position: bounded, the oldest go first
    purge .... every purge, whoever made it, with its frame; and `seen`, what they come to
    line ..... the roster
    cursor ... how far each other node's log was heard

The log and the cursors survive the end of the process, and after a power cut lack the last moments,
which costs something told twice or not at all. A purge and the roster are forced to disk before the
call returns: what was confirmed stays so.

Purges and roster are held in memory as well. A disk that is full or fails loses nothing until the
process ends: everything is written again as soon as something can be written, and until then
`confirmed` stands still, so that nobody is told that a purge is safe here. A file that is damaged
or of another fleet is set aside and a new one begun; `lost` says that purges may be missing until
others tell them again, and that answers on this disk may be among what they covered.

Blocks for the disk: some 50 us, and the time of an fsync for a purge. Not thread-safe.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from annotated_types import Gt

from index.database import Transaction, damaged
from index.entry import NodeName, Purged, Seen, Version
from sync import rows
from sync.keybook import KEY_PREFIX
from sync.private_files import write_private
from sync.rows import NAME, Rotten, Statement, name_of
from sync.seams import Cursor, Kept, Logged

log = logging.getLogger("promptedge.sync")

KEYED: Final = "fleet.keyed"
"""A file beside it, there once it held API keys: whoever has lost them, be it as the fleet was
founded anew, must not take itself for one that never had any, and let everybody in."""
FORMAT: Final = 1
RUNS_MAX: Final = 64
"""Of this node's process, remembered: who has not read our log for longer begins anew."""
PURGES_MAX: Final = 262_144
"""Kept at most, some 100 MB. More than `index.generations` remembers, which at a restart finds
anew what it must take for dead, as it cannot remember what killed it."""

_NOTHING: Final = Version(0)


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    log_max_bytes: Annotated[int, Gt(0)] = 64 << 20
    """Frames kept for nodes that are away; who was away for longer is told the hottest answers."""
    log_max_age_s: Annotated[float, Gt(0)] = 86_400.0
    """The same bound in time."""


class Outbox:
    """Owns `fleet.db` in a directory that this process owns. Raises OSError when it cannot."""

    def __init__(
        self,
        directory: Path,
        fleet: bytes,
        run: bytes,
        settings: OutboxSettings | None = None,
    ) -> None:
        """`run`: 8 bytes drawn at the start of the process; positions are told with it."""
        self.path = directory / NAME
        self.settings = settings or OutboxSettings()
        self.fleet = fleet
        self.run = run
        self.keyed = (directory / KEYED).exists()
        """Were there ever API keys in it?"""
        self.lost = False
        """True when a file was set aside: purges may be missing until others tell them again."""
        self.unwritten = 0
        """Writes that failed, and were made up for later or not yet."""
        self.digest = 0
        """Two outboxes with one digest hold the same purges."""
        self.reserved = _NOTHING
        """No reading of this node's clock above this one was ever given away."""
        self.acknowledged = _NOTHING
        """This node's purges up to here are known to another one."""
        self.floor = _NOTHING
        """The log is complete from here on."""
        self.latest = _NOTHING
        """Position of the last frame in the log."""
        self.forgot = _NOTHING
        """When a file was set aside at the start: purges of what is older may be missing."""
        self.confirmed: Seen = ()
        """What the purges on disk come to."""
        self._seen: Seen = ()
        self._purges: dict[bytes, Kept] = {}
        self._lines: dict[str, bytes] = {}
        self._cursors: dict[NodeName, Cursor] = {}
        self._log_bytes = 0
        self._behind = False
        """Memory holds what the file lacks."""
        self._adrift = False
        """There is no file: one could not be opened in place of the one set aside."""
        self._runs: list[tuple[bytes, Version]] = []
        """And where the log ended when each began, oldest first."""
        self._file = self._opened()
        self._note_keyed()
        self._runs = [*self._runs[1 - RUNS_MAX :], (run, self.latest)]
        self._write(*rows.all_runs(self._runs))

    @property
    def behind(self) -> bool:
        """Is there something that the disk did not take, and that a restart would forget?"""
        return self._behind

    # The log.

    def begin(self, position: Version) -> None:
        """A new log begins after `position`, above any that an earlier one may have given."""
        self.floor = self.latest = position
        if self.lost:
            self.forgot = position
        self._write(rows.stamps({"floor": position, "forgot": self.forgot}))

    def told_until(self, run: bytes) -> Version | None:
        """How far the log had come when that run ended, as we remember it; None if we do not.

        A reader that heard more in that run heard what a power cut took from us. If we do not
        remember the run, the disk may be an old copy, and there is no saying what it heard.
        """
        ends = [*(began for _, began in self._runs[1:]), self.latest]
        return next(
            (end for (one, _), end in zip(self._runs, ends, strict=True) if one == run), None
        )

    def append(self, logged: Logged) -> bool:
        """Add a frame, at a position above all before. False if the disk does not take it."""
        if not self._write(rows.logged(logged)):
            return False
        self.latest = logged.position
        self._log_bytes += len(logged.frame)
        if self._log_bytes > self.settings.log_max_bytes:
            self._shorten()
        return True

    def after(self, position: Version, bytes_max: int) -> list[Logged]:
        """The next frames, oldest first: one at least if there is one, else up to `bytes_max`."""
        frames: list[Logged] = []
        try:
            found = self._file.execute(
                "SELECT position, origin, scope, reach, frame FROM log WHERE position > ?"
                " ORDER BY position",
                (position,),
            )
            size = 0
            for row in found:
                one = rows.logged_of(*row)
                size += len(one.frame)
                if frames and size > bytes_max:
                    break
                frames.append(one)
            found.close()
        except sqlite3.Error as exc:
            self._suffer(exc)
        return frames

    def forget_log(self, before: Version) -> None:
        """Drop frames that are older."""
        if before > self.floor and self.latest > self.floor:
            self._drop(Version(before))

    # Purges.

    def keep_purges(self, kept: Sequence[Kept], seen: Seen) -> bool:
        """Remember purges, on disk when this returns True; `seen` is what all of them come to."""
        new: dict[bytes, Kept] = {}
        for one in kept:
            name = name_of(one.purged)
            known = self._purges.get(name)
            if known is not None and known.purged.version >= one.purged.version:
                continue
            self._hold(name, one)
            new[name] = one
        if not new and seen == self._seen:
            return self._seen == self.confirmed
        self._seen = seen
        written = self._write(rows.purges(new), *rows.all_seen(seen), durable=True)
        if len(self._purges) > PURGES_MAX:
            oldest = sorted(one.purged.version for one in self._purges.values())
            self.forget_purges(oldest[PURGES_MAX // 16], seen)
        return written

    def purges(self) -> Iterator[Kept]:
        return iter(self._purges.values())

    def acknowledge(self, version: Version) -> None:
        """Another node has applied this node's purges up to `version`."""
        self.acknowledged = version
        self._write(rows.stamps({"acknowledged": version}))

    def latest_of(self, purged: Purged) -> Version:
        """The version of this purge, or of the latest one of the same by the same node."""
        known = self._purges.get(name_of(purged))
        return purged.version if known is None else max(known.purged.version, purged.version)

    def forget_purges(self, before: Version, seen: Seen) -> None:
        """Drop purges that are older: what they covered has expired."""
        old = [name for name, one in self._purges.items() if one.purged.version <= before]
        for name in old:
            self.digest ^= _hash(name, self._purges.pop(name).purged.version)
        self._seen = seen
        if old:
            gone = ("DELETE FROM purge WHERE name=?", [(name,) for name in old])
            self._write(gone, *rows.all_seen(seen))

    # Roster, cursors, clock.

    def keep_line(self, name: str, line: bytes) -> None:
        """Remember a line of the roster, by its node's or its key's name."""
        self._lines[name] = line
        self._note_keyed()
        self._write(rows.lines({name: line}), durable=True)

    def lines(self) -> list[bytes]:
        return list(self._lines.values())

    def cursor(self, source: NodeName) -> Cursor:
        return self._cursors.get(source, Cursor())

    def keep_cursors(self, cursors: Mapping[NodeName, Cursor]) -> None:
        self._cursors.update(cursors)
        self._write(rows.cursors(cursors))

    def reserve(self, version: Version) -> None:
        """After a restart the clock begins above `version`, whatever the wall clock says then."""
        self.reserved = version
        self._write(rows.stamps({"reserved": version}), durable=True)

    def catch_up(self) -> bool:
        """Write what could not be written, if there is any. True when nothing waits."""
        if self._adrift:
            try:
                self._file = rows.connected(self.path)
            except (sqlite3.Error, OSError):
                return False
            self._adrift = False
            self._log_bytes, self.floor = 0, self.latest
        return not self._behind or self._write(durable=True)

    def check(self) -> None:
        """Audit memory against the file; for tests and operators, O(n)."""
        if self._behind:
            return
        held = dict(self._file.execute("SELECT name, version FROM purge"))
        assert held == {name: one.purged.version for name, one in self._purges.items()}
        assert dict(self._file.execute("SELECT node, line FROM line")) == self._lines
        (size, last) = self._file.execute(
            "SELECT ifnull(sum(length(frame)), 0), ifnull(max(position), 0) FROM log"
        ).fetchone()
        assert size == self._log_bytes <= self.settings.log_max_bytes
        assert last in (0, self.latest)
        digest = 0
        for name, one in self._purges.items():
            digest ^= _hash(name, one.purged.version)
        assert digest == self.digest

    def close(self) -> None:
        self._file.close()

    def __repr__(self) -> str:
        return (
            f"<Outbox {self._log_bytes} bytes, {len(self._purges)} purges,"
            f" {len(self._lines)} enrolled{', behind' * self._behind}>"
        )

    # The file.

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._loaded(rows.connected(self.path))
        except (sqlite3.DatabaseError, Rotten) as exc:
            if isinstance(exc, sqlite3.Error) and not damaged(exc):
                raise OSError(f"{self.path}: {exc}") from exc
            self._set_aside(exc)
            return self._loaded(rows.connected(self.path))

    def _loaded(self, file: sqlite3.Connection) -> sqlite3.Connection:
        try:
            self._load(file)
        except BaseException:
            file.close()
            raise
        return file

    def _load(self, file: sqlite3.Connection) -> None:
        stamps = dict(file.execute("SELECT name, value FROM stamp"))
        if not stamps:
            with Transaction(file):
                file.executemany(*rows.stamps({"format": FORMAT, "fleet": self.fleet}))
        elif stamps.get("format") != FORMAT:
            raise Rotten("of another format")
        elif stamps.get("fleet") != self.fleet:
            raise Rotten("of another fleet")
        for name, frame, checksum in file.execute("SELECT name, frame, checksum FROM purge"):
            self._hold(name, rows.kept_of(frame, checksum))
        self.confirmed = self._seen = tuple(
            (NodeName(node), Version(version))
            for node, version in file.execute("SELECT node, version FROM seen ORDER BY node")
        )
        self._lines = dict(file.execute("SELECT node, line FROM line"))
        for source, position, run in file.execute("SELECT source, position, run FROM cursor"):
            self._cursors[source] = Cursor(Version(position), run)
        self._runs = [
            (run, Version(began))
            for run, began in file.execute("SELECT run, began FROM run ORDER BY number")
        ]
        self.reserved = Version(stamps.get("reserved", 0))
        self.acknowledged = Version(stamps.get("acknowledged", 0))
        self.floor = Version(stamps.get("floor", 0))
        self.forgot = Version(stamps.get("forgot", 0))
        self._log_bytes, last = file.execute(
            "SELECT ifnull(sum(length(frame)), 0), ifnull(max(position), 0) FROM log"
        ).fetchone()
        self.latest = Version(max(last, self.floor))

    def _set_aside(self, why: Exception) -> None:
        log.error("event=fleet_set_aside file=%s why=%s", self.path, why)
        self.lost = True
        self.digest = 0
        self._purges.clear()
        self.path.replace(self.path.with_name(f"{self.path.name}.damaged"))
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _write(self, *statements: Statement, durable: bool = False) -> bool:
        """All of them or none; False if the disk does not take them."""
        durable = durable or self._behind
        try:
            if durable:
                self._file.execute("PRAGMA synchronous=FULL")
            with Transaction(self._file):
                for sql, values in (*(self._everything() if self._behind else ()), *statements):
                    self._file.executemany(sql, values)
            if durable:
                self._file.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error as exc:
            self.unwritten += 1
            self._suffer(exc)
            return False
        self._behind = self._adrift
        if not self._adrift:
            self.confirmed = self._seen
        return not self._adrift

    def _suffer(self, exc: sqlite3.Error) -> None:
        """The disk is full or failing: later. The file is damaged: begin another, and go on."""
        if not self._behind:
            log.warning("event=fleet_unwritten why=%s", exc)
        self._behind = True
        if not damaged(exc):
            return
        self._file.close()
        purges = dict(self._purges)
        try:
            self._set_aside(exc)
            self._file = rows.connected(self.path)
        except (sqlite3.Error, OSError) as again:
            log.error("event=fleet_not_opened why=%s", again)
            self._file = rows.connected(":memory:")
            self._adrift = True
        self.lost = False  # nothing is: it is all here
        for name, one in purges.items():
            self._hold(name, one)
        self._log_bytes = 0
        self.floor = self.latest
        self.catch_up()

    def _everything(self) -> list[Statement]:
        """What is in memory, so that a file that lacks some of it, or all, has it."""
        stamps = {
            "format": FORMAT,
            "fleet": self.fleet,
            "reserved": self.reserved,
            "acknowledged": self.acknowledged,
            "floor": self.floor,
            "forgot": self.forgot,
        }
        return [
            rows.stamps(stamps),
            ("DELETE FROM purge", [()]),
            rows.purges(self._purges),
            *rows.all_seen(self._seen),
            rows.lines(self._lines),
            rows.cursors(self._cursors),
            *rows.all_runs(self._runs),
        ]

    def _shorten(self) -> None:
        """Drop the oldest eighth, so that it need not be done for every frame."""
        excess = self._log_bytes - self.settings.log_max_bytes * 7 // 8
        sizes = self._file.execute("SELECT position, length(frame) FROM log ORDER BY position")
        for position, size in sizes:
            excess -= size
            if excess <= 0:
                sizes.close()
                self._drop(Version(position))
                return

    def _drop(self, until: Version) -> None:
        size = self._file.execute(
            "SELECT ifnull(sum(length(frame)), 0) FROM log WHERE position <= ?", (until,)
        ).fetchone()[0]
        floor = min(until, self.latest)
        gone = ("DELETE FROM log WHERE position <= ?", [(until,)])
        if self._write(gone, rows.stamps({"floor": floor})):
            self._log_bytes -= size
            self.floor = Version(floor)

    def _note_keyed(self) -> None:
        if self.keyed or not any(name.startswith(KEY_PREFIX) for name in self._lines):
            return
        try:
            write_private(self.path.with_name(KEYED), self.fleet.hex().encode())
            self.keyed = True
        except OSError as exc:
            log.error("event=fleet_unwritten file=%s why=%s", KEYED, exc)

    def _hold(self, name: bytes, one: Kept) -> None:
        if (known := self._purges.get(name)) is not None:
            self.digest ^= _hash(name, known.purged.version)
        self.digest ^= _hash(name, one.purged.version)
        self._purges[name] = one


def _hash(name: bytes, version: Version) -> int:
    return int.from_bytes(hashlib.blake2b(name + version.to_bytes(8), digest_size=8).digest())
