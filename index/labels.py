"""What became of answers by meaning: the control and its lock, records of entries, wrong pairs.

`Control` decides about classes; here is what is known of single questions and pairs, and where all
of it lives between two runs (`labels.db`, a file of its own: it outlives the cache). Questions are
named by a digest of partition and text, so that what was learned of one holds when its answer is
fetched anew, and no text is written down.

Proven wrong pairs are on disk when `refute` returns. The rest is saved now and then: a process that
is killed forgets some labels, which costs hits and never a wrong answer.
"""

import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any, Final

import msgpack

from index.betting import Interval
from index.calibration import Calibration
from index.control import ClassReport, Control
from index.decision import Candidate, DecisionSettings, Judged
from index.entry import PartitionKey, Question
from index.orthography import fold

log = logging.getLogger("labels")

NAME: Final = "labels.db"
RECORDS_MAX: Final = 50_000
"""Questions with a record, some 300 bytes each; the one not touched for longest goes."""
REFUTED_MAX: Final = 50_000
_DIGEST_BYTES: Final = 12


@dataclass(slots=True)
class _Record:
    right: int = 0
    wrong: int = 0
    answer: int = 0
    """Questions with the same number were found to have the same answer."""


_REFUTED: Final = "SELECT pair FROM refuted ORDER BY rowid"
_NOTHING: Final = _Record()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a candidate that was weighed: would its answer have been right?"""

    judged: Judged
    right: bool
    label: bool
    """Whether it is the one of its stratum that would have been served."""


class Labels:
    """Owns its file until `close`. Safe to call from several threads."""

    def __init__(
        self, directory: Path | None, settings: DecisionSettings, calibration: Calibration
    ) -> None:
        """Without a directory nothing lasts."""
        self.settings = settings
        self.calibration = calibration
        self._lock = Lock()
        self._control = Control(settings, calibration)
        self._records: OrderedDict[bytes, _Record] = OrderedDict()
        self._answers = 0
        self._changed = False
        self._file = _open(directory / NAME) if directory else _connected(":memory:")
        self._refuted: OrderedDict[bytes, None] = OrderedDict.fromkeys(
            digest for (digest,) in self._file.execute(_REFUTED)
        )
        self._restore()

    # Deciding.

    def cut(self, name: str, *, counts: bool = True) -> Callable[[str], float]:
        """The cut of each stratum in the class `name`, which `counts` as asked."""
        if counts:
            with self._lock:
                self._control.asked(name)

        def of(stratum: str) -> float:
            with self._lock:
                return self._control.cut(name, stratum)

        return of

    def known(self, asked: Question, candidates: Iterable[Candidate]) -> list[Candidate]:
        """The candidates, with what is on record of them."""
        found = []
        with self._lock:
            folded = _folded(asked.text) if self._refuted else ""
            for one in candidates:
                record = self._records.get(_digest(asked.partition, one.text), _NOTHING)
                refuted = bool(folded) and _pair(asked, one.text, folded) in self._refuted
                nothing = record is _NOTHING and not refuted
                found.append(one if nothing else _on_record(one, record, refuted=refuted))
        return found

    def shadow_rate(self, name: str) -> float:
        with self._lock:
            return self._control.shadow_rate(name)

    # Learning.

    def missed(self, name: str, asked: Question, verdicts: Sequence[Verdict]) -> None:
        """The prompt was answered afresh; what of the candidates would have been right."""
        with self._lock:
            joined = 0
            for one in verdicts:
                record = self._record(_digest(asked.partition, one.judged.candidate.text))
                if one.label:
                    self._control.missed(name, one.judged.stratum, one.judged.score, not one.right)
                if one.right:
                    joined = joined or record.answer or self._next_answer()
                    record.answer = joined
            if verdicts:
                self._record(_digest(asked.partition, asked.text)).answer = (
                    joined or self._next_answer()
                )

    def replaced(self, question: Question) -> None:
        """The question has another answer now: nobody knows yet whose it is like."""
        with self._lock:
            record = self._records.get(_digest(question.partition, question.text))
            if record is not None:
                record.answer = 0

    def unchecked(self, name: str, probability: float) -> None:
        with self._lock:
            self._control.unchecked(name, probability)
            self._changed = True

    def checked(
        self, name: str, asked: Question, served: Judged, *, right: bool, probability: float
    ) -> bool:
        """A hit was compared with a fresh answer. True when that sets off an alarm."""
        with self._lock:
            self._count(self._record(_digest(asked.partition, served.candidate.text)), right=right)
            return self._control.checked(name, served.stratum, served.score, not right, probability)

    def undecided(self, name: str, probability: float) -> None:
        """A hit that was drawn for a check could not be told right from wrong."""
        with self._lock:
            self._control.undecided(name, probability)
            self._changed = True

    def unwatched(self, name: str) -> None:
        """A hit was served while none is checked."""
        with self._lock:
            self._control.unwatched(name)
            self._changed = True

    def complained(self, name: str, asked: Question, served: Judged) -> None:
        """Somebody says that the answer was wrong: never again for this question."""
        with self._lock:
            self._count(self._record(_digest(asked.partition, served.candidate.text)), right=False)
            self._control.complained(name, served.stratum, served.score)
        self.refute(asked, served.candidate.text)

    def refute(self, asked: Question, cached: str) -> None:
        """The answer to `cached` is wrong for `asked`, and the other way round; on disk at once."""
        pair = _pair(asked, cached)
        with self._lock:
            self._refuted.pop(pair, None)
            self._refuted[pair] = None
            gone = []
            while len(self._refuted) > REFUTED_MAX:
                oldest, _ = self._refuted.popitem(last=False)
                gone.append((oldest,))
        try:
            self._file.execute("INSERT OR REPLACE INTO refuted(pair) VALUES(?)", (pair,))
            self._file.executemany("DELETE FROM refuted WHERE pair=?", gone)
        except sqlite3.Error as exc:
            log.error("event=refuted_pair_not_saved why=%s", exc)  # it holds until the restart

    def twins(self, name: str, differ: bool) -> None:
        """The upstream was asked the same prompt twice."""
        with self._lock:
            self._control.twins(name, differ)
            self._changed = True

    # Telling.

    def noise(self, name: str) -> Interval:
        with self._lock:
            return self._control.noise(name)

    def report(self) -> list[ClassReport]:
        with self._lock:
            return list(self._control.report())

    def report_of(self, name: str) -> ClassReport | None:
        """None of a class that has not been asked for."""
        return next((one for one in self.report() if one.name == name), None)

    @property
    def refuted(self) -> int:
        return len(self._refuted)

    def save(self) -> None:
        """Write down what was learned since the last time, if the disk lets us."""
        with self._lock:
            if not self._changed:
                return
            self._changed = False
            state = {
                "control": self._control.state(),
                "answers": self._answers,
                "records": [
                    (digest, one.right, one.wrong, one.answer)
                    for digest, one in self._records.items()
                ],
            }
        packed = msgpack.packb(state)  # takes 0.1 s when all is full: not under the lock
        try:
            self._file.execute(
                "INSERT OR REPLACE INTO state(name, value) VALUES('all', ?)", (packed,)
            )
        except sqlite3.Error as exc:
            self._changed = True
            log.warning("event=labels_not_saved why=%s", exc)

    def close(self) -> None:
        self.save()
        self._file.close()

    def __repr__(self) -> str:
        return f"<Labels {len(self._records)} records, {len(self._refuted)} refuted>"

    def _restore(self) -> None:
        row = self._file.execute("SELECT value FROM state WHERE name='all'").fetchone()
        if row is None:
            return
        try:
            self._take(msgpack.unpackb(row[0], use_list=True))
        except (ValueError, LookupError, TypeError) as exc:  # another version wrote it, or rot
            log.error("event=labels_unreadable why=%r", exc)
            self._control = Control(self.settings, self.calibration)
            self._records.clear()

    def _take(self, state: Mapping[str, Any]) -> None:
        if self._control.restore(state["control"]):
            self._answers = state["answers"]
            for digest, right, wrong, answer in state["records"]:
                self._records[digest] = _Record(right, wrong, answer)

    def _record(self, digest: bytes) -> _Record:
        self._changed = True
        record = self._records.get(digest)
        if record is None:
            record = self._records[digest] = _Record()
            if len(self._records) > RECORDS_MAX:
                self._records.popitem(last=False)
        else:
            self._records.move_to_end(digest)
        return record

    def _count(self, record: _Record, *, right: bool) -> None:
        if right:
            record.right += 1
        else:
            record.wrong += 1

    def _next_answer(self) -> int:
        self._answers += 1
        return self._answers


def _on_record(one: Candidate, record: _Record, *, refuted: bool) -> Candidate:
    return replace(
        one, answer=record.answer, right=record.right, wrong=record.wrong, refuted=refuted
    )


def _digest(partition: PartitionKey, *texts: str) -> bytes:
    digest = blake2b(digest_size=_DIGEST_BYTES, key=partition)
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.digest()


def _pair(asked: Question, cached: str, folded: str = "") -> bytes:
    """The same in both directions, and however the two are spaced or composed."""
    pair = sorted((folded or _folded(asked.text), _folded(cached)))
    return _digest(asked.partition, *pair)


def _folded(text: str) -> str:
    return fold(text).lower()


def _open(path: Path) -> sqlite3.Connection:
    """A damaged file is set aside: what it forbade is forgotten, which the log says."""
    try:
        return _connected(path)
    except sqlite3.DatabaseError as exc:
        log.error("event=labels_set_aside file=%s why=%s", path, exc)
        path.replace(path.with_name(f"{path.name}.damaged"))
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _connected(path)


def _connected(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE IF NOT EXISTS refuted(pair BLOB PRIMARY KEY)",
            "CREATE TABLE IF NOT EXISTS state(name TEXT PRIMARY KEY, value BLOB NOT NULL)",
        ):
            connection.execute(statement)
        ((found, *_),) = connection.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise sqlite3.DatabaseError(found)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection
