"""Gets a node its next certificate long before the last one ends.

A node with the operator's key signs it itself; any other asks those that have it, one after the
other, and again tomorrow: there are months for it to work once. Open connections are not touched;
the next handshake shows the new one.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable

from cryptography.hazmat.primitives.serialization import Encoding

from index.entry import Timestamp
from sync import certificates
from sync.credentials import Credentials, CredentialsError
from sync.peer_client import Peer, PeerClient, Unanswered
from sync.roster import Roster

log = logging.getLogger("sync")

EVERY_S = 86_400.0
SOON_S = 300.0
"""After the start, when links are up."""


async def keep_renewed(
    own: Credentials, roster: Roster, client: PeerClient, wall: Callable[[], Timestamp]
) -> None:
    """Works until cancelled."""
    await asyncio.sleep(SOON_S)
    while True:
        await renew(own, roster, client, dt.datetime.fromtimestamp(wall(), dt.UTC))
        await asyncio.sleep(EVERY_S)


async def renew(own: Credentials, roster: Roster, client: PeerClient, now: dt.datetime) -> bool:
    """Renew if it is time to. False if it is, and nobody did."""
    if not certificates.due(own.certificate, now):
        return True
    if own.operator is not None:
        own.renew(own.issue(own.public_key, own.name, now))
        return True
    request = certificates.request(own.key).public_bytes(Encoding.PEM).decode()
    for member in roster:
        if member.revoked or not member.may_invite or not member.address:
            continue
        try:
            given = await client.renew(
                Peer(member.name, member.address, member.public_key), request
            )
            own.renew(certificates.read(given))
        except (Unanswered, CredentialsError, ValueError) as exc:
            log.info("event=not_renewed by=%s why=%s", member.name, exc)
            continue
        log.info("event=renewed by=%s until=%s", member.name, own.certificate.not_valid_after_utc)
        return True
    log.error(
        "event=certificate_not_renewed until=%s hint=%s",
        own.certificate.not_valid_after_utc,
        "no node that may invite others answers; without one this node joins anew by then",
    )
    return False
