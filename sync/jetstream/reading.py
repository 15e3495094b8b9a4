"""Reads one source in order, from where it was left, for as long as the connection lasts.

The server's consumer is made for one reading and forgotten after it: where we are is ours to know.
A cursor is the sequence number of the last message that was applied, and when the server kept it.
The first thing asked for is that message once more. If it comes, nothing was lost in between. If
another comes instead, the numbers have been given out anew, by a server that lost its latest
messages with its power, or a stream that was made again: then everything since that moment is read
again, and who applies it knows it by its version.

    us                                         server
    where do you begin, where do you end? ──►
    from message 41, of this filter       ──►
                                          ◄──  41 (skipped), 42, 43 ...
                                          ◄──  flow control: have you got so far?
    yes, when all before it is applied    ──►
                                          ◄──  heartbeat, two seconds after the last message

A gap in the consumer's own numbers, or three heartbeats that should have come by now, and the
consumer is made again.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import api
from nats.js.manager import JetStreamManager
from nats.nuid import NUID

from sync.jetstream.client import Connection
from sync.jetstream.streams import API_TIMEOUT_S, told
from sync.jetstream.subjects import Source

log = logging.getLogger("nats")

HEARTBEAT_S = 2.0
SILENT_PONGS = 4
"""A consumer that is not heard between so many answers to pings, two seconds apart, is no more."""
AGAIN_S = 1.0
"""Between attempts to make a consumer: a stream may be without a leader for some seconds."""
FORGOTTEN_S = 30.0
"""A consumer that nobody listens to is deleted by the server after so long."""
RENUMBERED = "messages are numbered anew"
PENDING_MESSAGES_MAX = 65_536
PENDING_BYTES_MAX = 64 << 20
"""Received and not yet applied. Flow control keeps a server below; what is above is dropped, and is
a gap."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last message of a source that was applied."""

    sequence: int
    """In its stream, from 1."""
    kept_ns: int
    """When the server kept it, by its clock."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a server says of a message, in the subject that an acknowledgement would go to."""

    cursor: Cursor
    consumer: int
    """Its number among those of this consumer, from 1."""
    pending: int
    """How many of this source are still to come."""


def delivered(reply: str) -> Delivered:
    """Of `$JS.ACK.STREAM.CONSUMER.TRIES.SEQUENCE.NUMBER.TIME.PENDING`; newer servers have a domain
    and an account before the stream. Raises ValueError."""
    tokens = reply.split(".")
    if len(tokens) < 9 or tokens[:2] != ["$JS", "ACK"]:
        raise ValueError("not from a stream")
    sequence, number, kept_ns, pending = tokens[5:9] if len(tokens) == 9 else tokens[7:11]
    return Delivered(Cursor(int(sequence), int(kept_ns)), int(number), int(pending))


Apply = Callable[[Source, bytes, Delivered], Awaitable[None]]
Truncated = Callable[[Source], None]


class Reading:
    def __init__(
        self,
        client: Connection,
        source: Source,
        cursor: Cursor | None,
        apply: Apply,
        truncated: Truncated,
    ) -> None:
        """`truncated` is called when the stream does not reach back to the cursor."""
        self.source = source
        self.cursor = cursor
        self._client = client
        self._apply = apply
        self._truncated = truncated
        self._manager = JetStreamManager(client, timeout=API_TIMEOUT_S)
        self._renumbered = False
        self.current = False
        """Was all read, once, that the stream had?"""

    async def run(self) -> None:
        """Until the connection has ended, which is watched elsewhere."""
        while True:
            try:
                ended = await self._read()
            except (nats.errors.Error, TimeoutError) as exc:
                ended = told(exc)
            if self._client.over.done():
                return
            log.warning("event=consumer_ended source=%s why=%s", self.source.name, ended)
            await asyncio.sleep(AGAIN_S)

    async def _read(self) -> str:
        """Read until something is wrong; what it is."""
        config = await self._start()
        resumed = config.deliver_policy is api.DeliverPolicy.BY_START_SEQUENCE
        consumer = _Consumer(self._client, self.cursor if resumed else None, self._on_message)
        config.deliver_subject = self._client.new_inbox()
        subscription = await self._client.subscribe(
            config.deliver_subject,
            cb=consumer.on_message,
            pending_msgs_limit=PENDING_MESSAGES_MAX,
            pending_bytes_limit=PENDING_BYTES_MAX,
        )
        try:
            made = await self._manager.add_consumer(self.source.stream, config)
            self.current = self.current or not made.num_pending
            ended = await consumer.ended(subscription)
        except (nats.errors.Error, TimeoutError) as exc:
            ended = told(exc)
        finally:
            consumer.stop()
        self._renumbered = ended == RENUMBERED
        if not self._client.over.done():
            await subscription.unsubscribe()
        return ended

    async def _start(self) -> api.ConsumerConfig:
        """A consumer that begins where we are."""
        config = api.ConsumerConfig(
            name=NUID().next().decode(),
            filter_subject=self.source.filter,
            ack_policy=api.AckPolicy.NONE,
            max_deliver=1,
            flow_control=True,
            idle_heartbeat=HEARTBEAT_S,
            inactive_threshold=FORGOTTEN_S,
            mem_storage=True,
            num_replicas=1,
        )
        if self.cursor is None:
            return config
        if self._renumbered:
            return self._since_then(config)
        state = (await self._manager.stream_info(self.source.stream)).state
        if self.cursor.sequence < state.first_seq:
            if self.cursor.sequence + 1 < state.first_seq:
                log.warning("event=truncated source=%s", self.source.name)
                self._truncated(self.source)
            return config
        if self.cursor.sequence <= state.last_seq:
            config.deliver_policy = api.DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = self.cursor.sequence
            return config
        return self._since_then(config)

    def _since_then(self, config: api.ConsumerConfig) -> api.ConsumerConfig:
        assert self.cursor is not None
        config.deliver_policy = api.DeliverPolicy.BY_START_TIME
        config.opt_start_time = dt.datetime.fromtimestamp(
            self.cursor.kept_ns // 1_000_000_000, dt.UTC
        )
        return config

    async def _on_message(self, data: bytes, what: Delivered) -> None:
        if what.cursor != self.cursor:
            await self._apply(self.source, data, what)
            self.cursor = what.cursor
        self.current = self.current or not what.pending


class _Consumer:
    """One consumer's messages, in order or not at all."""

    def __init__(
        self,
        client: Connection,
        expected: Cursor | None,
        take: Callable[[bytes, Delivered], Awaitable[None]],
    ) -> None:
        self._client = client
        self._expected = expected
        self._take = take
        self._number = 0
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def ended(self, subscription: Subscription) -> str:
        """What went wrong, when something has."""
        over = self._client.over
        received, pongs = -1, 0
        while not over.done():
            if subscription.delivered != received:
                received, pongs = subscription.delivered, self._client.pongs
            elif self._client.pongs - pongs >= SILENT_PONGS:
                return "silence"
            await asyncio.wait(
                (self._end, over), timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
            )
            if self._end.done():
                return self._end.result()
        return "closed"

    def stop(self) -> None:
        """Take no more messages."""
        if not self._end.done():
            self._end.set_result("stopped")

    async def on_message(self, message: Msg) -> None:
        if self._end.done():
            return
        headers = message.headers or {}
        status = headers.get(api.Header.STATUS)
        if status is None:
            await self._on_data(message)
        elif status == api.StatusCode.CONTROL_MESSAGE:
            await self._on_control(message, headers)
        else:
            self._end.set_result(f"status {status} {headers.get(api.Header.DESCRIPTION, '')}")

    async def _on_data(self, message: Msg) -> None:
        try:
            what = delivered(message.reply)
        except ValueError:
            return  # no message of the consumer's: somebody talks to our inbox
        if what.consumer != self._number + 1:
            self._end.set_result("a gap")
            return
        self._number += 1
        expected, self._expected = self._expected, None
        if expected not in (None, what.cursor):
            self._end.set_result(RENUMBERED)
            return
        await self._take(message.data, what)

    async def _on_control(self, message: Msg, headers: dict[str, str]) -> None:
        """Messages come in order, so all before this one have been applied."""
        if message.reply:
            await self._client.publish(message.reply)
            return
        if stalled := headers.get(api.Header.CONSUMER_STALLED):
            await self._client.publish(stalled)
        last = headers.get(api.Header.LAST_CONSUMER, "0")
        if int(last) != self._number:
            self._end.set_result("a gap")
