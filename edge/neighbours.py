"""Asks one near node for an answer that it seems to have, before an upstream is asked for it.

Nodes tell one another which keys they hold, in ten bits each (`sync.digest`), so a question in vain
is rare, and so is a wait: who does not answer within `fetch_timeout_s` is not waited for, and who
was slow of late is not asked. What a node is told of depends on its region and scopes, as what it
may be given does; a digest is made for each such audience, that is for each list of scopes that
nodes were invited for, in each region. How many tenants there are does not matter.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from index.entry import CacheKey, Entry, Instant, NodeName, Reach, Scope
from sync.admission import may_keep
from sync.digest import SALT_BYTES, Digest, DigestError, Holdings
from sync.peer_client import Peer, PeerClient, Revoked, Unanswered
from sync.roster import Enrolment
from sync.settings import SyncSettings

log = logging.getLogger("sync")

DIGEST_S = 600.0
"""A digest is made anew so often: what has left meanwhile is in it until then."""
ASK_S = 10.0
"""Nodes are asked for what is new in theirs so often."""
SLOW_S = 60.0
"""How long a node that did not answer in time is not asked."""
AUDIENCES_MAX = 64
"""Digests kept, of 1.25 MB for a million answers each; every answer that comes is added to all of
them, which takes some 100 us. Nodes of a further audience are told of nothing."""
AUDIENCE_IDLE_S = 120.0
"""An audience that has not asked for so long has gone, and makes room."""
RECENT = 8_192
"""Answers that came last: a digest that is being made lacks them."""
_SMOOTHING = 0.3
_FIRST_GUESS_S = 0.05


class Shelf(Protocol):
    """See `index.answers.Answers`."""

    def outlines(self) -> Iterable[Entry]: ...


_Audience = tuple[str, tuple[str, ...]]
"""Nodes that may have the same: a region, and patterns of scopes."""


@dataclass(slots=True)
class Neighbour:
    """Another node, as one to ask."""

    holdings: Holdings
    answers_in_s: float = _FIRST_GUESS_S
    slow_until: Instant = Instant(0.0)  # noqa: RUF009  a number


@dataclass(slots=True)
class Counts:
    """Questions to others, by what came of them."""

    found: int = 0
    in_vain: int = 0
    late: int = 0
    told: int = 0
    """Questions of others that were answered here."""
    undigested: int = 0
    """Nodes that asked for a digest when there was no room for one more."""


@dataclass(slots=True)
class _Told:
    """What one audience is told."""

    digest: Digest
    reader: Enrolment
    """One of the audience: what it may have, all of it may."""
    made_at: Instant
    asked_at: Instant


class Neighbours:
    def __init__(
        self,
        shelf: Shelf,
        client: PeerClient,
        settings: SyncSettings,
        secret: bytes,
        region: str,
        live: Callable[[], list[tuple[Peer, str]]],
        reader: Executor,
        monotonic: Callable[[], Instant],
        salt: Callable[[int], bytes],
    ) -> None:
        """`live` names the nodes that may be asked, and the region of each."""
        self.counts = Counts()
        self.revoked_by: set[NodeName] = set()
        """Nodes that say this one was revoked."""
        self._shelf = shelf
        self._client = client
        self._settings = settings
        self._secret = secret
        self._region = region
        self._live = live
        self._reader = reader
        self._monotonic = monotonic
        self._salt = salt
        self._neighbours: dict[NodeName, Neighbour] = {}
        self._told: dict[_Audience, _Told] = {}
        self._making = asyncio.Lock()
        self._recent: deque[tuple[Scope, CacheKey, Reach]] = deque(maxlen=RECENT)

    async def run(self) -> None:
        """Keep up with what others hold. Works until cancelled."""
        while True:
            await self.ask_around()
            await asyncio.sleep(ASK_S)

    async def ask_around(self) -> None:
        """Learn what others hold by now."""
        async with asyncio.TaskGroup() as asking:  # one that does not answer keeps no other waiting
            for peer, _ in self._live():
                asking.create_task(self._listen_to(peer), name=f"ask {peer.name}")

    async def fetch(self, scope: Scope, key: CacheKey) -> bytes | None:
        """A frame with the answer, from the nearest node that seems to have it."""
        now = self._monotonic()
        holding = [
            (region != self._region, known.answers_in_s, peer)
            for peer, region in self._live()
            if (known := self._neighbours.get(peer.name)) is not None
            and known.slow_until <= now
            and known.answers_in_s < self._settings.fetch_timeout_s
            and key in known.holdings
        ]
        if not holding:
            return None
        peer = min(holding, key=lambda one: one[:2])[2]
        frame = await self._client.fetch(peer, scope, key, self._settings.fetch_timeout_s)
        self._learn(self._neighbours[peer.name], self._monotonic() - now)
        if frame is None:
            self.counts.in_vain += 1
        else:
            self.counts.found += 1
        return frame

    def _learn(self, neighbour: Neighbour, took_s: float) -> None:
        neighbour.answers_in_s += _SMOOTHING * (took_s - neighbour.answers_in_s)
        if took_s >= self._settings.fetch_timeout_s:
            self.counts.late += 1
            neighbour.slow_until = Instant(self._monotonic() + SLOW_S)
            neighbour.answers_in_s = _FIRST_GUESS_S

    async def _listen_to(self, peer: Peer) -> None:
        known = self._neighbours.get(peer.name)
        if known is None:
            known = self._neighbours[peer.name] = Neighbour(Holdings(self._secret))
        try:
            told = await self._client.digest(peer, known.holdings.salt, known.holdings.added)
            self.revoked_by.discard(peer.name)
            if told is None:
                known.holdings = Holdings(self._secret)  # it has no digest for us (any more)
            else:
                known.holdings.hear(told)
        except (Unanswered, DigestError) as exc:
            log.debug("event=no_digest peer=%s why=%s", peer.name, exc)
            known.holdings = Holdings(self._secret)
            if isinstance(exc, Revoked):
                self.revoked_by.add(peer.name)

    # Being asked.

    async def digest(self, reader: Enrolment, salt: bytes, added: int) -> bytes | None:
        """What is here, as far as that node may know; what is more, for who has told its part."""
        audience = (reader.region, reader.scopes)
        told = self._of_late(audience)
        if told is None:
            async with self._making:  # one at a time: each looks through all that is on disk
                told = self._of_late(audience) or await self._make(audience, reader)
        if told is None:
            self.counts.undigested += 1
            return None
        told.asked_at = self._monotonic()
        return told.digest.told(salt, added)

    @property
    def audiences(self) -> int:
        """For how many a digest is kept."""
        return len(self._told)

    def _of_late(self, audience: _Audience) -> _Told | None:
        told = self._told.get(audience)
        if told is None or told.digest.full or self._monotonic() - told.made_at > DIGEST_S:
            return None
        return told

    async def _make(self, audience: _Audience, reader: Enrolment) -> _Told | None:
        if audience not in self._told and not self._room():
            return None
        loop = asyncio.get_running_loop()
        digest = await loop.run_in_executor(self._reader, self._made_for, reader)
        for one in self._recent:  # what came while it was being made, and a little more
            _add(digest, reader, *one)
        now = self._monotonic()
        told = self._told[audience] = _Told(digest, reader, now, now)
        return told

    def _room(self) -> bool:
        """Is there room for one more audience, now that who has gone was let go?"""
        if len(self._told) < AUDIENCES_MAX:
            return True
        longest = min(self._told, key=lambda one: self._told[one].asked_at)
        if self._monotonic() - self._told[longest].asked_at < AUDIENCE_IDLE_S:
            return False
        del self._told[longest]
        return True

    def added(self, entry: Entry) -> None:
        """An answer is here from now on."""
        one = entry.scope, entry.key, entry.reach
        self._recent.append(one)
        for audience, told in list(self._told.items()):
            if told.digest.full:  # whoever it is for may never ask again
                del self._told[audience]
            else:
                _add(told.digest, told.reader, *one)

    def _made_for(self, reader: Enrolment) -> Digest:
        keys = (
            entry.key
            for entry in self._shelf.outlines()
            if may_keep(reader, entry.scope, entry.reach)
        )
        return Digest(keys, self._secret, self._salt(SALT_BYTES))


def _add(digest: Digest, reader: Enrolment, scope: Scope, key: CacheKey, reach: Reach) -> None:
    if may_keep(reader, scope, reach):
        digest.add(key)
