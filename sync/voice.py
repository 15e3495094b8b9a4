"""How a node speaks: by its clock, under its signature, what belongs together in one frame."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from index.clock import ClockSkew, HybridClock, Now, at
from index.entry import NodeName, Reach, Scope, Timestamp, Version
from sync.frames import signed
from sync.messages import ENTRIES_MAX, Item, Message
from sync.recent import Recent
from sync.seams import Log

FRAME_BYTES: Final = 128 << 10
"""Of answers said together, about; a larger one goes alone."""
RESERVE_S: Final = 5.0
"""Readings are reserved so far ahead: one fsync pays for those of five seconds. After a restart the
clock is ahead by as much at most, which counts against the skew that others bear."""
_RESERVE_READINGS: Final = 1 << 16
"""Reserved at least, when the clock is ahead of the wall: restarts must not drive it on."""
_CHANCE: Final = 1 << 20
"""Readings; 16 ms of them."""
_ENTRY_BYTES: Final = 300
"""Of an answer in a frame, besides its texts."""


@dataclass(frozen=True, slots=True)
class Own:
    """This node, as it is in its fleet."""

    name: NodeName
    key: Ed25519PrivateKey
    region: str
    address: str = ""
    """Where its sync listener is reached; empty: it only dials."""
    encoder: str = ""
    """Fingerprint, for hints."""
    relay: bool = False
    """Passes others' answers on to nodes that ask for that."""
    relayed: bool = False
    """Listens to relays, not to everybody: asks them for others' answers."""


class Voice:
    def __init__(self, own: Own, fleet: bytes, log: Log) -> None:
        self.own = own
        self._fleet = fleet
        self._log = log
        self.clock = HybridClock(log.reserved)
        self.recent = Recent()
        self.leap()

    def leap(self) -> None:
        """Go a bit further, by chance: an old copy of the disk must not make us give one twice."""
        chance = int.from_bytes(self._log.run) % _CHANCE
        self.clock.latest = Version(self.clock.latest + chance)

    def stamp(self, now: Now) -> Version:
        """A reading above all before it, those of earlier runs included, and all that was heard."""
        version = self.clock.tick(now.wall)
        if version > self._log.reserved:
            ahead = at(Timestamp(now.wall + RESERVE_S))
            self._log.reserve(Version(max(ahead, version + _RESERVE_READINGS)))
        return version

    def recall(self, reading: Version, now: Now) -> None:
        """Somebody knows a reading of our clock: from here on we give higher ones."""
        with suppress(ClockSkew):
            self.clock.observe(reading, now.wall)

    def say(self, message: Message, now: Now) -> tuple[Version, bytes]:
        """The frame, and its version. Raises MessageError for what may not be said."""
        version = self.stamp(now)
        return version, self.sign(message, version)

    def sign(self, message: Message, version: Version) -> bytes:
        """The frame of a message that has its version."""
        self.recent.add(self.own.name, version)
        return signed(message, self.own.name, version, self.own.key, self._fleet)


def together(items: Iterable[Item | None]) -> Iterator[tuple[Item, ...]]:
    """Answers as they are said: of one scope and reach, and not too many or too large.

    In their order as far as that goes; only what fills a frame is taken before it is asked for.
    None is no answer but a pause, and is passed on as nothing.
    """
    open_: dict[tuple[Scope, Reach], list[Item]] = {}
    sizes: dict[tuple[Scope, Reach], int] = {}
    for item in items:
        if item is None:
            yield ()
            continue
        entry = item[0]
        border = entry.scope, entry.reach
        group = open_.setdefault(border, [])
        size = _ENTRY_BYTES + len(entry.body)
        if entry.question is not None:
            size += len(entry.question.text.encode())
        if group and sizes[border] + size > FRAME_BYTES:
            yield tuple(open_.pop(border))
            group, sizes[border] = open_.setdefault(border, []), 0
        group.append(item)
        sizes[border] = sizes.get(border, 0) + size
        if len(group) == ENTRIES_MAX or sizes[border] >= FRAME_BYTES:
            yield tuple(open_.pop(border))
            sizes[border] = 0
    yield from (tuple(group) for group in open_.values())
