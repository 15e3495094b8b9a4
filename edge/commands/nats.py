"""`promptedge nats-permissions` and `nats-streams`: a NATS server, made ready for the fleet."""

import argparse
import asyncio
import datetime as dt
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.calling import EXIT_FAILED, EXIT_OK, add_config
from index.entry import NodeName
from sync.credentials import Credentials, CredentialsError, fleet_file
from sync.jetstream import streams
from sync.jetstream.client import Login, NatsError, connect, login_from, shown
from sync.jetstream.permissions import configuration, user
from sync.jetstream.subjects import Subjects, inbox
from sync.roster import Enrolment, Roster
from sync.rows import lines_in

if TYPE_CHECKING:
    from edge.config import Config

OPERATOR = NodeName("operator")


def add(commands: Any) -> None:
    one = commands.add_parser(
        "nats-permissions", help="print the users of a NATS server: the fleet's nodes"
    )
    _add_place(one)
    option = one.add_argument
    option("--node", metavar="NAME", help="this node's entry alone")
    option("--account", metavar="NAME", default="PROMPTEDGE", help="default: PROMPTEDGE")
    one.set_defaults(run=permissions)

    one = commands.add_parser("nats-streams", help="make a NATS server's streams, or change them")
    _add_place(one)
    one.add_argument(
        "--credentials", metavar="FILE", type=Path, help="of a user who may (default: the operator)"
    )
    one.set_defaults(run=make_streams)


def _add_place(command: argparse.ArgumentParser) -> None:
    add_config(command)
    command.add_argument("--data", metavar="DIR", help="a node's directory (default ./var)")


def permissions(options: argparse.Namespace) -> int:
    config = _config(options)
    try:
        own = _credentials(config)
        members = [one for one in _roster(config, own) if not one.revoked]
    except CredentialsError as exc:
        return _failed(exc)
    subjects = Subjects.of(config.sync.nats.prefix, own.fleet)
    if options.node is None:
        operator = own.operator_public_key.public_bytes_raw()
        print(configuration(subjects, operator, members, options.account), end="")
        return EXIT_OK
    found = [one for one in members if options.node in (one.name, one.name.rpartition(".")[0])]
    if len(found) != 1:
        return _failed(f"there is no node {options.node}, or more than one: {_names(members)}")
    print(user(subjects, found[0]), end="")
    return EXIT_OK


def make_streams(options: argparse.Namespace) -> int:
    config = _config(options)
    try:
        own = _credentials(config)
        login = login_from(options.credentials) if options.credentials else _operator(own)
        made = asyncio.run(_made(config, own, login))
    except (CredentialsError, NatsError) as exc:
        return _failed(exc)
    for name in made:
        print(name)
    return EXIT_OK


async def _made(config: "Config", own: Credentials, login: Login) -> list[str]:
    settings = config.sync.nats
    subjects = Subjects.of(settings.prefix, own.fleet)
    problems = []
    for url in settings.urls:
        try:
            client = await connect(url, settings, login, OPERATOR, inbox(OPERATOR))
        except NatsError as exc:
            problems.append(f"{shown(url)}: {exc}")
            continue
        try:
            return await streams.make(client, subjects, settings)
        finally:
            await client.abandon()
    raise NatsError("; ".join(problems) or "[sync.nats] urls is empty: which servers?")


def _operator(own: Credentials) -> Login:
    if own.operator is None:
        raise CredentialsError(
            f"{own.name} does not have the operator's key: do this on a node that may invite others"
        )
    return Login(own.operator_public_key.public_bytes_raw(), own.operator.sign)


def _config(options: argparse.Namespace) -> "Config":
    from edge.config import load  # and every part of a node

    flags = {"node": {"data": options.data}} if options.data else {}
    return load(options.config, os.environ, flags)


def _credentials(config: "Config") -> Credentials:
    """Raises CredentialsError."""
    data = config.node.data
    if not fleet_file(data).exists():
        raise CredentialsError(f"{data} is no node's directory: start the node once, or join")
    now = dt.datetime.fromtimestamp(time.time(), dt.UTC)  # noqa: TID251  the command's clock
    return Credentials.load(data, config.node.name, now)


def _roster(config: "Config", own: Credentials) -> Roster:
    """As it is on disk, whether or not the node runs. Raises CredentialsError."""
    roster = Roster(own.operator_public_key)
    try:
        for line in lines_in(config.node.data):
            roster.merge(line)
    except (OSError, ValueError) as exc:
        raise CredentialsError(f"{config.node.data}: the roster cannot be read: {exc}") from exc
    return roster


def _names(members: list[Enrolment]) -> str:
    return ", ".join(one.name for one in members) or "the roster is empty"


def _failed(why: object) -> int:
    print(f"promptedge: {why}", file=sys.stderr)
    return EXIT_FAILED
