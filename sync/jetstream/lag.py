"""How far behind each node's words we are: canaries, and what has become of them.

Every few seconds each node says on core NATS, which keeps nothing: it is now this late here, and of
what I published the streams have kept everything up to these numbers. Who hears it has either read
so far, and lags by the time the canary took; or it has not, and lags until it has. A consumer that
has silently stopped, or a node that no longer comes through, shows within a few seconds.

Wall clocks of two machines are compared: what they differ by is in the figure.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from index.entry import Timestamp

CANARY_INTERVAL_S = 5.0
_OVERDUE_S = 2 * CANARY_INTERVAL_S
_BYTES_MAX = 4_096
_SPEAKERS_MAX = 1_024
FORGOTTEN_S = 86_400.0
"""A node not heard of for so long has left."""


@dataclass(frozen=True, slots=True)
class Canary:
    at: Timestamp
    """When it was let go, by the speaker's clock."""
    kept: Mapping[str, int]
    """By source: the number of the speaker's last message that its stream has."""


@dataclass(slots=True)
class _Speaker:
    heard: Timestamp
    """Our clock, at its last canary."""
    delay: float
    """What the last canary that was caught up with had taken, in seconds."""
    behind: Canary | None = None
    """The oldest canary that we have not caught up with."""


@dataclass(slots=True)
class Lag:
    """Of one node, towards all others."""

    _speakers: dict[str, _Speaker] = field(default_factory=dict)

    def heard(self, name: str, canary: Canary, read: Mapping[str, int], now: Timestamp) -> None:
        """`read`: by source that we read, the number that we have come to."""
        speaker = self._speakers.get(name)
        if speaker is None:
            if len(self._speakers) >= _SPEAKERS_MAX:
                return
            speaker = self._speakers[name] = _Speaker(now, 0.0)
        speaker.heard = now
        if speaker.behind is not None and _reached(speaker.behind, read):
            speaker.behind = None
        if _reached(canary, read):
            speaker.behind = None
            speaker.delay = max(0.0, now - canary.at)
        elif speaker.behind is None:
            speaker.behind = canary

    def seconds(self, read: Mapping[str, int], now: Timestamp) -> dict[str, float]:
        """By speaker. Those long gone are forgotten."""
        self._speakers = {
            name: one for name, one in self._speakers.items() if now - one.heard < FORGOTTEN_S
        }
        return {name: _seconds(one, read, now) for name, one in self._speakers.items()}


def _seconds(speaker: _Speaker, read: Mapping[str, int], now: Timestamp) -> float:
    if speaker.behind is not None and not _reached(speaker.behind, read):
        return max(0.0, now - speaker.behind.at)
    if now - speaker.heard > _OVERDUE_S:
        return now - speaker.heard
    return speaker.delay


def _reached(canary: Canary, read: Mapping[str, int]) -> bool:
    """Have we read all of it that is for us?"""
    return all(read[source] >= number for source, number in canary.kept.items() if source in read)


def written(canary: Canary) -> bytes:
    return json.dumps({"at": canary.at, "kept": canary.kept}).encode()


def parsed(data: bytes) -> Canary:
    """Raises ValueError."""
    try:
        said = json.loads(data) if len(data) <= _BYTES_MAX else None
    except (ValueError, RecursionError):
        said = None
    if type(said) is not dict or type(said.get("kept")) is not dict:
        raise ValueError("no canary")
    at, kept = said.get("at"), said["kept"]
    if type(at) is not float or not isfinite(at):
        raise ValueError("no canary")
    if any(type(number) is not int for number in kept.values()):
        raise ValueError("no canary")
    return Canary(Timestamp(at), kept)
