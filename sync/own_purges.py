"""The purges that this node makes, and makes once more when it turns out that it forgot some.

Whoever starts from an old copy of its disk does not remember some of its purges, and may have given
the next ones lower versions, which others take for applied. What others say of us shows it: then
those are made again, with versions above all that anybody knows.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Final

from index.clock import Now
from index.entry import Instant, Purge, Purged, Version
from sync.frames import peek
from sync.hearing import Hearing
from sync.messages import Presence
from sync.peers import REPAIR_MAX_S, REPAIR_S
from sync.seams import Kept, Log, Shelf
from sync.voice import Voice

MADE_MAX: Final = 1_024
_NOTHING: Final = Version(0)


class OwnPurges:
    def __init__(self, voice: Voice, hearing: Hearing, log: Log, shelf: Shelf, now: Now) -> None:
        self._voice = voice
        self._own = voice.own.name
        self._hearing = hearing
        self._log = log
        self._made: OrderedDict[Version, Purged] = OrderedDict()
        """Our latest purges of this run, by their versions."""
        applied = dict(shelf.seen).get(self._own, _NOTHING)
        self._latest = max([applied, *(one.purged.version for one in self._kept())])
        """Our last purge."""
        self._disputed = _NOTHING
        """Others say they applied our purges up to here, and we did not make ours again."""
        self._again_at = now.mono
        self._again_s = REPAIR_S

    def make(self, purge: Purge, now: Now, *, soft: bool) -> tuple[Purged, bytes]:
        """Purge here. When this returns it is on disk; its frame is for everybody."""
        version = self._voice.stamp(now)
        purged = Purged(purge, self._own, version, self._latest, soft)
        frame = self._voice.sign(purged, version)
        self._latest = version
        self._made[version] = purged
        if len(self._made) > MADE_MAX:
            self._made.popitem(last=False)
        self._hearing.apply([Kept(purged, frame)])
        return purged, frame

    def applied(self, known: Version, now: Now, given: Collection[Version] = ()) -> list[bytes]:
        """Somebody has applied our purges up to `known`, or gave us those that we had forgotten.

        Returns the frames of those that we made once more.
        """
        self._voice.recall(known, now)
        if known > self._voice.clock.latest:
            return []  # somebody's invention
        late = next(iter(self._made), known) < known
        if not given and (known in self._made or (known <= self._log.acknowledged and not late)):
            self._acknowledge(known)
            return []
        mine = {
            one.version: one
            for one in (*(kept.purged for kept in self._kept()), *self._made.values())
        }
        foreign = known in given or known not in mine
        if foreign and not given and now.mono < self._again_at:
            self._disputed = max(self._disputed, known)
            return []
        again = [
            mine[version]
            for version in sorted(mine)
            if foreign
            and version < known
            and version not in given
            # What was acknowledged before this run others tell whoever lacks it.
            and (version in self._made or version > self._log.acknowledged)
        ]
        self._acknowledge(known)
        self._latest = max(self._latest, known)
        if again and not given:
            # Who says it again and again must not have us purge as often.
            self._again_at = Instant(now.mono + self._again_s)
            self._again_s = min(2 * self._again_s, REPAIR_MAX_S)
        return self._make_again(again[-MADE_MAX:], now)

    def _make_again(self, purges: list[Purged], now: Now) -> list[bytes]:
        if purges:
            self._voice.leap()
        frames = []
        for one in purges:
            self._made.pop(one.version, None)
            frames.append(self.make(one.purge, now, soft=one.soft)[1])
        return frames

    def given(self, frames: Iterable[bytes], now: Now) -> list[bytes]:
        """Some of these purges may be ours: then we had forgotten them. As `applied`."""
        headers = [peek(frame) for frame in frames]
        ours = [header.version for header in headers if header.origin == self._own]
        return self.applied(max(ours), now, ours) if ours else []

    def confirmed(self, purged: Purged, presence: Presence) -> bool:
        """Does a node say that it applied a purge of this run?

        What it says counts if we know what it means: from before an old copy took the place of our
        disk it may know of later ones than this, and not of this.
        """
        known = dict(presence.seen).get(self._own, _NOTHING)
        version = self._log.latest_of(purged)  # it may have been made once more
        alike = presence.purges == self._log.digest
        ours = known in self._made and version > self._disputed
        return known >= version and (ours or alike)

    def beyond(self, known: Version) -> list[bytes]:
        """Frames of the latest, above `known`."""
        missed = [one for one in self._kept() if one.purged.version > known]
        missed.sort(key=lambda one: one.purged.version)
        return [one.frame for one in missed[-MADE_MAX:]]

    def _kept(self) -> Iterable[Kept]:
        return [one for one in self._log.purges() if one.purged.by == self._own]

    def _acknowledge(self, known: Version) -> None:
        if known > self._log.acknowledged:
            self._log.acknowledge(known)

    def __repr__(self) -> str:
        return f"<OwnPurges {len(self._made)} of this run, the last at {self._latest}>"
