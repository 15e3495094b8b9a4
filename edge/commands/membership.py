"""`promptedge invite`, `join` and `revoke`: who belongs to the fleet."""

import argparse
import os
import shlex
import sys
import time
from typing import Any

from edge import membership
from edge.commands.calling import EXIT_FAILED, EXIT_OK, add_admin, add_config, call, seconds
from edge.identity import IdentityError
from edge.listen import ListenError
from index.database import DirectoryInUse
from index.entry import Timestamp
from sync.credentials import CredentialsError
from sync.joining import JoinError
from sync.tokens import TokenError

_FAILURES = (
    membership.MembershipError,
    CredentialsError,
    DirectoryInUse,
    IdentityError,
    JoinError,
    ListenError,
    TokenError,
)


def add(commands: Any) -> None:
    one = commands.add_parser("invite", help="let one node join the fleet of a running one")
    add_admin(one)
    option = one.add_argument
    option("--name", metavar="NAME", help="only a node that is called so")
    option("--region", metavar="REGION", help="only a node that is there")
    option("--valid", metavar="TIME", type=seconds, help="how long: 30min, 2h, 1d (default 1h)")
    option("--no-publish", action="store_true", help="its answers reach nobody else")
    option("--no-invite", action="store_true", help="it gets no key to invite or revoke others")
    option("--scope", metavar="PATTERN", action="append", help="scopes it may hold (default: all)")
    one.set_defaults(run=invite)

    one = commands.add_parser("join", help="make the node in a directory a member of a fleet")
    option = one.add_argument
    option("token", metavar="TOKEN", help="what promptedge invite printed; - for stdin")
    add_config(one)
    option("--data", metavar="DIR", help="the node's directory (default ./var)")
    option("--name", metavar="NAME", help="its name (default: [node] name, or any that is free)")
    option("--region", metavar="REGION", help="where it is (default: as whoever invited it)")
    option("--listen", metavar="HOST:PORT", help="where other nodes reach it (default: port 8444)")
    option("--address", metavar="HOST:PORT", help="as they dial it, if that differs")
    option("--leave", action="store_true", help="leave the fleet that the directory belongs to")
    one.set_defaults(run=join)

    one = commands.add_parser("revoke", help="shut a node out of the fleet, now")
    add_admin(one)
    one.add_argument("node", metavar="NODE", help="its name: see promptedge status")
    one.add_argument("--keep", action="store_true", help="keep what it fetched: it was retired")
    one.set_defaults(run=revoke)


def invite(options: argparse.Namespace) -> int:
    terms: dict[str, Any] = {
        "name": options.name,
        "region": options.region,
        "may_publish": not options.no_publish,
        "may_invite": not options.no_invite,
    }
    if options.scope:
        terms["scopes"] = options.scope
    asked: dict[str, Any] = {"terms": terms}
    if options.valid is not None:
        asked["valid_s"] = options.valid
    made = call(options, "/admin/invite", asked)
    if made is None:
        return EXIT_FAILED
    until = time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(made["until"]))
    print(f"On the new node, before it is started, until {until}:\n", file=sys.stderr)
    print(f"promptedge join {made['token']}")
    if membership.is_loopback(made["address"]):
        print(
            f"\nThis node is reached at {made['address']}, by this machine alone: for nodes"
            "\nelsewhere set [sync] listen, restart it and invite again.",
            file=sys.stderr,
        )
    return EXIT_OK


def join(options: argparse.Namespace) -> int:
    from edge.config import NodeSettings, load  # and every part of a node

    flags = {"node": {"data": options.data}} if options.data else {}
    config = load(options.config, os.environ, flags)
    place = config.sync
    wanted = membership.Wanted(
        name=options.name or ("" if config.node.name == NodeSettings().name else config.node.name),
        region=options.region or place.region,
        listen=options.listen or place.listen,
        address=options.address or place.address,
        leave=options.leave,
    )
    token = sys.stdin.read() if options.token == "-" else options.token
    now = Timestamp(time.time())  # noqa: TID251  the command's clock
    try:
        done = membership.join(token, config.node.data, config.fleet.secret_file, wanted, now)
    except _FAILURES as exc:
        print(f"promptedge: {exc}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as exc:
        print(f"promptedge: {config.node.data}: {exc}", file=sys.stderr)
        return EXIT_FAILED
    print(_told(done, options))
    return EXIT_OK


def _told(done: membership.Membership, options: argparse.Namespace) -> str:
    others = "1 other node" if done.others == 1 else f"{done.others} other nodes"
    lines = [f"{done.name} belongs to a fleet with {others}, in region {done.region}."]
    lines.append(f"It listens on {done.listen}; the others dial {done.address}.")
    if done.may_invite:
        lines.append("It may invite others, and revoke them.")
    if done.set_aside:
        lines.append(
            f"What was cached here was keyed with another secret and is of no use any more:"
            f" set aside as {done.set_aside}."
        )
    flags = [
        f" --{name} {shlex.quote(str(value))}"
        for name in ("config", "data")
        if (value := getattr(options, name))
    ]
    lines.append(f"Start it: promptedge serve{''.join(flags)}")
    return "\n".join(lines)


def revoke(options: argparse.Namespace) -> int:
    done = call(options, "/admin/revoke", {"node": options.node, "keep": options.keep})
    if done is None:
        return EXIT_FAILED
    kept = done["purged"] is None
    count = "1 answer" if done["purged"] == 1 else f"{done['purged']} answers"
    became = "what it fetched stays" if kept else f"{count} of it purged here"
    print(f"{done['node']} is revoked; {became}")
    if done["had_operator_key"]:
        print(
            "It has had the operator's key, with which it could enrol itself again. If it is in"
            "\nforeign hands, found the fleet anew: docs/fleet.md says how.",
            file=sys.stderr,
        )
    return EXIT_OK
