"""Publishes into streams without waiting, and hears what was kept.

To wait for each message's acknowledgement would cost a round trip a message; so many are on their
way at once, and each names in its reply subject which it was. A message that is sent again after a
break has the same id: the server knows it by that for two minutes, who applies it for ever.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nats.aio.msg import Msg
from nats.js import api

from sync.jetstream.client import Connection

log = logging.getLogger("nats")

OVERDUE_PINGS = 3
"""A message is kept within milliseconds; pings are two seconds apart."""


@dataclass(slots=True)
class _Job:
    """What is done when all its messages are kept."""

    position: int
    missing: int


@dataclass(frozen=True, slots=True)
class _Sent:
    job: _Job
    subject: str
    pings: int
    """How many there had been."""


class Publishing:
    """For one connection."""

    def __init__(self, client: Connection, inbox: str, acked: Callable[[int], None]) -> None:
        """`acked` is given a position when everything up to it is in its stream."""
        self._client = client
        self._inbox = f"{inbox}.kept"
        self._acked = acked
        self._number = 0
        self._sent: dict[str, _Sent] = {}
        """By the last token of the reply subject, oldest first."""
        self._jobs: dict[int, _Job] = {}
        """By position, in the order they were given."""
        self.sequences: dict[str, int] = {}
        """By subject: the number of the last message that its stream has."""

    async def start(self) -> None:
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_reply)

    async def publish(
        self,
        subjects: Sequence[str],
        payload: bytes,
        message_id: str,
        position: int = 0,
    ) -> None:
        """Hand it to the connection, which waits while more than its buffer is unsent.

        A position of 0 is not reported: whoever publishes makes sure in another way.
        """
        job = _Job(position, len(subjects))
        if position:
            self._jobs[position] = job
        for at, subject in enumerate(subjects):
            self._number += 1
            number = str(self._number)
            self._sent[number] = _Sent(job, subject, self._client.pings)
            await self._client.publish(
                subject,
                payload,
                reply=f"{self._inbox}.{number}",
                headers={api.Header.MSG_ID.value: f"{message_id}:{at}" if at else message_id},
            )
        self._report()

    @property
    def overdue(self) -> bool:
        """Has the server answered pings that were sent after a message, and not said that it keeps
        the message?"""
        oldest = next(iter(self._sent.values()), None)
        return oldest is not None and self._client.pongs >= oldest.pings + OVERDUE_PINGS

    async def _on_reply(self, message: Msg) -> None:
        number = message.subject.rpartition(".")[2]
        sent = self._sent.get(number)
        if sent is None:
            return
        sequence, why = _sequence(message)
        if sequence is None:  # it stays among the sent, and ends the session when it is old
            log.warning("event=not_kept subject=%s why=%s", sent.subject, why)
            return
        del self._sent[number]
        self.sequences[sent.subject] = max(sequence, self.sequences.get(sent.subject, 0))
        sent.job.missing -= 1
        self._report()

    def _report(self) -> None:
        """Acknowledge what is complete, in order."""
        done = 0
        while self._jobs and not (first := next(iter(self._jobs.values()))).missing:
            done = first.position
            del self._jobs[done]
        if done:
            self._acked(done)


def _sequence(message: Msg) -> tuple[int | None, str]:
    """Where it was kept; or None, and why not."""
    status = (message.headers or {}).get(api.Header.STATUS)
    if status == api.StatusCode.SERVICE_UNAVAILABLE:
        return None, "no stream has this subject, or JetStream is off"
    try:
        said = json.loads(message.data)
        if "error" in said:
            return None, str(said["error"].get("description"))
        return int(said["seq"]), ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, "an answer that is no acknowledgement"
