"""What another node lacks of purges and roster, as its presence shows, and when it is told that.

Most of it is on its way already: a node is told once it had the time to hear of it otherwise, then
ever more seldom, and at last everything, as what it says it has it may lack after all.
"""

from typing import Final

from index.clock import Now
from index.entry import Instant, NodeName, Seen
from sync.messages import Enrolments, Message
from sync.peers import REPAIR_MAX_S, REPAIR_S, Peer, Peers
from sync.roster import Roster
from sync.seams import Log
from sync.tables import lacks, tables

LINES_AT_ONCE: Final = 256


class Mending:
    def __init__(self, own: NodeName, peers: Peers, roster: Roster, log: Log) -> None:
        self._own = own
        self._peers = peers
        self._roster = roster
        self._log = log
        self._unmet: dict[NodeName, None] = {}

    def linked(self, name: NodeName) -> None:
        """Newly: it is told what it lacks when it first says what it has."""
        self._unmet[name] = None

    def due(self, peer: Peer, now: Now, *, all_hear: bool) -> list[Message]:
        """What a node is to be told now; `all_hear`: and others with it, who may tell it too."""
        presence = peer.presence
        purges_alike = presence.purges == self._log.digest
        purges_alike &= not lacks(presence.seen, self._log.confirmed)
        if purges_alike and presence.roster == self._roster.digest:
            peer.repair_at, peer.repairs = None, 0
            self._unmet.pop(peer.name, None)
            return []
        known = presence.seen
        if peer.name in self._unmet:
            del self._unmet[peer.name]
            peer.repairs = 0  # what was told over links that broke may never have come
        elif peer.repair_at is None:
            peer.repair_at = Instant(now.mono + REPAIR_S)
            return []
        elif now.mono < peer.repair_at or (all_hear and not self._first(peer, now)):
            return []
        elif peer.repairs:
            known = ()  # what it says it has it may lack after all: everything
        wait_s = min(REPAIR_S * 2**peer.repairs, REPAIR_MAX_S)
        peer.repair_at = Instant(now.mono + wait_s)
        peer.repairs += 1
        return [*self.lines(presence.roster), *([] if purges_alike else self.purges(known))]

    def lines(self, theirs: int) -> list[Message]:
        """The roster, for whom holds another than we; `theirs` is its digest."""
        lines = self._roster.lines() if theirs != self._roster.digest else []
        return [
            Enrolments(tuple(lines[start : start + LINES_AT_ONCE]))
            for start in range(0, len(lines), LINES_AT_ONCE)
        ]

    def purges(self, theirs: Seen) -> list[Message]:
        """Those beyond what somebody has applied."""
        return [*tables(self._log.purges(), self._log.confirmed, theirs)]

    def _first(self, peer: Peer, now: Now) -> bool:
        """Of those that hold what we hold, one speaks: the first by name."""
        alike = [
            one.name
            for one in self._peers.live(now)
            if one is not peer
            and (one.presence.purges, one.presence.roster)
            == (self._log.digest, self._roster.digest)
            and not lacks(one.presence.seen, self._log.confirmed)
        ]
        return all(self._own < name for name in alike)
