"""The two streams: what they keep, and how they come to be."""

import contextlib
import logging

import nats.errors
from nats.aio.client import Client
from nats.js import api
from nats.js.errors import APIError, NotFoundError
from nats.js.manager import JetStreamManager

from sync.jetstream.client import NatsError, spoken
from sync.jetstream.settings import NatsSettings
from sync.jetstream.subjects import Subjects

log = logging.getLogger("nats")

DAY_S = 86_400.0
ENTRIES_MAX_AGE_S = 30 * DAY_S
"""No answer lives longer."""
PURGES_MAX_AGE_S = 32 * DAY_S
"""Every answer that a purge could have covered has expired by then, on whatever clock."""
PURGES_MAX_BYTES = 256 << 20
"""A million purges, about."""
MESSAGE_MAX_BYTES = (1 << 20) + 4096
"""A frame of the greatest size, and the headers it travels with."""
DUPLICATE_WINDOW_S = 120.0
"""How long the server knows a message again that is published twice."""
API_TIMEOUT_S = 4.0


def definitions(subjects: Subjects, settings: NatsSettings) -> tuple[api.StreamConfig, ...]:
    root = subjects.root
    return (
        _stream(
            subjects.purges_stream,
            [f"{root}.purges.>"],
            PURGES_MAX_AGE_S,
            min(PURGES_MAX_BYTES, settings.max_bytes),
            settings.replicas,
        ),
        _stream(
            subjects.entries_stream,
            [f"{root}.entries.>"],
            ENTRIES_MAX_AGE_S,
            settings.max_bytes,
            settings.replicas,
        ),
    )


def _stream(
    name: str, subjects: list[str], max_age_s: float, max_bytes: int, replicas: int
) -> api.StreamConfig:
    return api.StreamConfig(
        name=name,
        subjects=subjects,
        storage=api.StorageType.FILE,
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.OLD,
        max_age=max_age_s,
        max_bytes=max_bytes,
        max_msg_size=MESSAGE_MAX_BYTES,
        num_replicas=replicas,
        duplicate_window=DUPLICATE_WINDOW_S,
        allow_direct=False,  # messages come by consumers, whose filter is checked
    )


async def make(client: Client, subjects: Subjects, settings: NatsSettings) -> list[str]:
    """Make the streams, or make them as they should be now; their names. For the operator.

    Raises:
        NatsError: the server does not let this user, or has no room.
    """
    manager = JetStreamManager(client, timeout=API_TIMEOUT_S)
    made = []
    for wanted in definitions(subjects, settings):
        try:
            with contextlib.suppress(NotFoundError):
                await manager.update_stream(wanted)
                made.append(str(wanted.name))
                continue
            await manager.add_stream(wanted)
            made.append(str(wanted.name))
        except (nats.errors.Error, TimeoutError) as exc:
            raise NatsError(f"stream {wanted.name}: {told(exc)}") from exc
    return made


async def found(client: Client, subjects: Subjects, settings: NatsSettings) -> None:
    """See that the streams are there; where nobody forbids it, make those that are not.

    Raises:
        NatsError: one is missing, and this user may not make it.
    """
    manager = JetStreamManager(client, timeout=API_TIMEOUT_S)
    for wanted in definitions(subjects, settings):
        try:
            await manager.stream_info(str(wanted.name))
        except NotFoundError:
            await _make_missing(manager, wanted)
        except (nats.errors.Error, TimeoutError) as exc:
            raise NatsError(f"stream {wanted.name}: {told(exc)}") from exc


async def _make_missing(manager: JetStreamManager, wanted: api.StreamConfig) -> None:
    try:
        await manager.add_stream(wanted)
    except (nats.errors.Error, TimeoutError) as exc:
        raise NatsError(
            f"stream {wanted.name} is missing, and cannot be made ({told(exc)}): "
            "the operator makes it with `promptedge nats-streams`"
        ) from exc
    log.info("event=stream_made stream=%s", wanted.name)


def told(error: Exception) -> str:
    """What the server said. To what a user may not ask it says nothing: that is a timeout."""
    if isinstance(error, APIError):
        return error.description or f"code {error.code}"
    if isinstance(error, TimeoutError):
        return "no answer: not permitted, or the stream has no leader"
    if isinstance(error, nats.errors.NoRespondersError):
        return "the server has no JetStream, or the account may not use it"
    return spoken(error)
