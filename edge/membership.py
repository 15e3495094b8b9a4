"""What joining a fleet changes in a data directory, and where its other nodes are met.

A node is joined while it does not run. What is written, in this order, so that a crash in between
leaves a node that can join again with the same token: the roster; the fleet's secret, which makes
what was cached under another useless, so that is set aside; the keys and certificates.
"""

import contextlib
import datetime as dt
import ipaddress
import json
import os
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from pydantic import TypeAdapter, ValidationError

from edge import identity, listen
from index.database import NAME as CACHE
from index.database import CacheFile, lock
from index.entry import NodeName, Timestamp
from sync import joining, tokens
from sync.credentials import Credentials, fleet_file, node_key
from sync.joining import Joined
from sync.outbox import KEYED, Outbox
from sync.private_files import write_private
from sync.roster import Roster
from sync.settings import SyncSettings

DEFAULT_LISTEN = "127.0.0.1:8444"
PORT = 8444
PORTS_TRIED = 64
SETTINGS = Path("fleet", "join.json")
RUN_BYTES = 8
_EVERY_ADDRESS = ("::", "0.0.0.0")


class MembershipError(Exception):
    """The node did not join; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is met."""

    listen: str
    address: str = ""
    """Where others dial it, if that is not the same."""


_PLACE = TypeAdapter(Place)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a node is to be in its fleet. Empty: whatever fits."""

    name: str = ""
    region: str = ""
    listen: str = ""
    address: str = ""
    leave: bool = False
    """The fleet that the data directory belongs to, for another."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What came of it."""

    name: NodeName
    region: str
    listen: str
    address: str
    others: int
    """Nodes of the fleet besides this one."""
    may_invite: bool
    set_aside: Path | None
    """Answers that were cached under another secret."""


def join(
    text: str, data: Path, secret_file: Path | None, wanted: Wanted, now: Timestamp
) -> Membership:
    """Join the fleet of the token `text`, with the node in `data`, which is not running.

    Raises:
        MembershipError, TokenError, JoinError, CredentialsError: it did not.
        DirectoryInUse: the node is running.
    """
    token = tokens.read(text, now)
    place = _place(wanted, token.address)
    descriptor = lock(data)
    try:
        if not wanted.leave:
            _check_alone(data, token)
        joined = joining.join(
            token,
            data,
            node_key(data),
            wanted.name,
            wanted.region,
            announced(place, token.address),
            now,
        )
        _keep_roster(joined, data)
        aside = _keep_secret(joined.secret, secret_file, data, now)
        joined.credentials.save()
        write_private(data / SETTINGS, json.dumps(asdict(place)).encode())
    finally:
        os.close(descriptor)
    own = joined.credentials
    members = {one.name: one for one in joined.members}
    me = members.pop(own.name)
    return Membership(
        own.name,
        me.region,
        place.listen,
        me.address,
        len(members),
        own.operator is not None,
        aside,
    )


def _check_alone(data: Path, token: tokens.Token) -> None:
    """Raises MembershipError when others belong to the directory's fleet, and it is another."""
    if not fleet_file(data).exists():
        return
    own = Credentials.load(data, "", dt.datetime.now(dt.UTC))
    if own.authority.public_bytes(serialization.Encoding.DER) == token.authority:
        return
    outbox = Outbox(data, own.fleet, os.urandom(RUN_BYTES))
    try:
        roster = Roster(own.operator_public_key)
        for line in outbox.lines():
            roster.merge(line)
        others = len(roster) > 1
    finally:
        outbox.close()
    if others:
        raise MembershipError(
            f"{data} belongs to a fleet with other nodes, as {own.name}: join --leave to leave it "
            "for this one, or give this node a directory of its own with --data"
        )


def _keep_roster(joined: Joined, data: Path) -> None:
    own = joined.credentials
    outbox = Outbox(data, own.fleet, os.urandom(RUN_BYTES))  # that of another fleet is set aside
    try:
        roster = Roster(own.operator_public_key)
        for line in joined.roster:
            if (said := roster.merge(line)) is not None:
                outbox.keep_line(said.name, line)
        if not len(roster.keybook):  # a fleet that asks for none: whoever joins it wants that
            (data / KEYED).unlink(missing_ok=True)
    finally:
        outbox.close()


def _keep_secret(secret: bytes, file: Path | None, data: Path, now: Timestamp) -> Path | None:
    """What was set aside as nobody can ask for it any more. Raises MembershipError."""
    if file is not None:
        if identity.fleet_secret(file, data) != secret:
            raise MembershipError(
                f"fleet.secret_file: {file} holds another secret than this fleet's, which comes "
                "with the token: remove the setting, then join again with the same token"
            )
        return None
    if identity.has_secret(data) and identity.fleet_secret(None, data) == secret:
        return None
    aside = None
    if (data / CACHE).exists():
        aside = CacheFile(data, "", lambda: now).set_aside("otherkeys")
    identity.keep_secret(secret, data)
    return aside


def settings_of(configured: SyncSettings, data: Path) -> SyncSettings:
    """The configuration, completed with what `join` was told and chose."""
    if configured.listen:
        return configured
    try:
        told = _PLACE.validate_json((data / SETTINGS).read_bytes())
    except (OSError, ValidationError):
        told = Place(DEFAULT_LISTEN)
    address = configured.address or told.address
    return replace(configured, listen=told.listen, address=address)


def announced(place: "SyncSettings | Place", towards: str = "192.0.2.1:9") -> str:
    """Where others dial this node, HOST:PORT. `towards`: an address they are near to."""
    if place.address:
        return place.address
    own = listen.parse(place.listen)
    if own.host in _EVERY_ADDRESS:
        own = listen.Address(_source(listen.parse(towards)), own.port)
    return str(own)


def is_loopback(address: str) -> bool:
    """Is this reached from this machine alone?"""
    host = listen.parse(address).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _place(wanted: Wanted, host: str) -> Place:
    """Where the node will listen: on the port of the fleet, or beside its host on one machine."""
    if wanted.listen or not is_loopback(host):
        return Place(wanted.listen or f":{PORT}", wanted.address)
    for port in range(PORT, PORT + PORTS_TRIED):
        with contextlib.suppress(listen.ListenError):
            listen.bind_tcp(listen.Address("127.0.0.1", port)).close()
            return Place(f"127.0.0.1:{port}", wanted.address)
    raise MembershipError(f"no port from {PORT} on is free: choose one with --listen")


def _source(towards: listen.Address) -> str:
    """This machine's address on the way there. Nothing is sent."""
    try:
        family = socket.getaddrinfo(towards.host, towards.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family[0], socket.SOCK_DGRAM) as sock:
            sock.connect(family[4])
            return str(sock.getsockname()[0])
    except OSError:
        return socket.gethostname()
