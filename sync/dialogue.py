"""What two nodes say to each other over their authenticated link: a type byte and msgpack.

    reader                                   source
    Hello(after, run, seen, ...)  ─────────►
                                  ◄─────────  Start(run, after)
                                  ◄─────────  Batch(position, latest, frames) ...
    Heard(position)               ─────────►
    Aside(frames)                 ◄────────►  purges, presence: what waits for nothing

Positions are readings of the source's clock, taken as it writes a frame into its log.
"""

from dataclasses import dataclass
from typing import Final

import msgpack

from index.entry import Seen, Version
from sync.messages import (
    MessageError,
    exactly,
    number,
    seen_of,
    several,
    typed,
    unpacked,
)

MESSAGE_BYTES_MAX: Final = (1 << 20) + (64 << 10)
"""A frame of the largest size, alone, and what a link adds."""
RUN_BYTES: Final = 8
FRAMES_MAX: Final = 1_024


@dataclass(frozen=True, slots=True)
class Hello:
    """Send me what your log holds after this."""

    after: Version
    """How far it was read and kept; 0: never."""
    run: bytes
    """The run of the source's process in which that position was told; empty: none."""
    seen: Seen
    roster: int
    """Digest of the roster."""
    relay: bool
    """Others' frames too, not only yours."""
    fill: bool
    """If the log does not reach back so far: its hottest answers first."""


@dataclass(frozen=True, slots=True)
class Start:
    """I go on from there."""

    run: bytes
    after: Version
    """Less than you asked for, if I forgot that you heard it."""
    latest: Version
    """Where my log ends."""
    truncated: bool
    """The log does not reach back so far: something else comes first."""


@dataclass(frozen=True, slots=True)
class Batch:
    position: Version
    """Where the log was read to; 0: answers from elsewhere than the log."""
    latest: Version
    """Where it ends."""
    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """That batch was applied."""

    count: int
    """Of batches on this link so far."""


@dataclass(frozen=True, slots=True)
class Aside:
    frames: tuple[bytes, ...]


DialogueMessage = Hello | Start | Batch | Heard | Aside

_TYPES: Final[dict[type[DialogueMessage], int]] = {Hello: 1, Start: 2, Batch: 3, Heard: 4, Aside: 5}


def written(message: DialogueMessage) -> bytes:
    columns = [getattr(message, name) for name in message.__slots__]
    packed: bytes = msgpack.packb(columns)
    return bytes((_TYPES[type(message)],)) + packed


def is_aside(data: bytes) -> bool:
    """May it overtake what was written before it?"""
    return data[:1] == bytes((_TYPES[Aside],))


def read(data: bytes) -> DialogueMessage:
    """Raises MessageError."""
    if not 0 < len(data) <= MESSAGE_BYTES_MAX:
        raise MessageError("too large")
    columns = unpacked(data[1:])
    match data[0]:
        case 1:
            after, run, seen, roster, relay, fill = exactly(columns, 6)
            return Hello(
                _position(after),
                _run(run),
                seen_of(seen),
                number(roster),
                typed(relay, bool),
                typed(fill, bool),
            )
        case 2:
            run, after, latest, truncated = exactly(columns, 4)
            return Start(_run(run), _position(after), _position(latest), typed(truncated, bool))
        case 3:
            position, latest, frames = exactly(columns, 3)
            return Batch(_position(position), _position(latest), _frames(frames))
        case 4:
            (count,) = exactly(columns, 1)
            return Heard(number(count))
        case 5:
            (frames,) = exactly(columns, 1)
            return Aside(_frames(frames))
        case _:
            raise MessageError("unknown type")


def _position(value: object) -> Version:
    return Version(number(value, 1 << 63))


def _run(value: object) -> bytes:
    run = typed(value, bytes)
    if len(run) not in (0, RUN_BYTES):
        raise MessageError("not a run")
    return run


def _frames(columns: object) -> tuple[bytes, ...]:
    return tuple(typed(frame, bytes) for frame in several(columns, FRAMES_MAX))
