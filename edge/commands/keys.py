"""`promptedge keys`: who may ask, for all nodes of the fleet."""

import argparse
import sys
import time
from typing import Any

from edge.commands.calling import EXIT_FAILED, EXIT_OK, add_admin, call, seconds


def add(commands: Any) -> None:
    one = commands.add_parser("keys", help="make, list, rotate and revoke API keys")
    what = one.add_subparsers(required=True, metavar="WHAT")

    one = what.add_parser("create", help="make a key and print it, once")
    add_admin(one)
    option = one.add_argument
    option("--tenant", metavar="NAME", required=True, help="whose key it is")
    option("--plan", metavar="NAME", help="what it may use: see [[plans]] (default: no limits)")
    option("--expires", metavar="TIME", type=seconds, help="12h, 90d (default: never)")
    option(
        "--scopes",
        metavar="LIST",
        type=_names,
        help="what it is good for: prompts, models, feedback (default: all)",
    )
    option(
        "--residency",
        metavar="LIST",
        type=_names,
        help="regions (sync.region) its answers may be kept in (default: all)",
    )
    option(
        "--regions",
        metavar="LIST",
        type=_names,
        help="regions whose upstreams may be sent its prompts (default: all)",
    )
    one.set_defaults(run=create)

    one = what.add_parser("list", help="list them, without the keys themselves")
    add_admin(one)
    one.set_defaults(run=listed)

    one = what.add_parser("rotate", help="make another like it; the old one ends soon")
    add_admin(one)
    one.add_argument("id", metavar="KEY_ID", help="see promptedge keys list")
    one.add_argument(
        "--overlap", metavar="TIME", type=seconds, help="how long the old one works (default 1h)"
    )
    one.set_defaults(run=rotate)

    one = what.add_parser("revoke", help="have a key work no more, now")
    add_admin(one)
    one.add_argument("id", metavar="KEY_ID", help="see promptedge keys list")
    one.set_defaults(run=revoke)


def create(options: argparse.Namespace) -> int:
    wanted = {
        "plan": options.plan,
        "valid_s": options.expires,
        "scopes": options.scopes,
        "residency": options.residency,
        "regions": options.regions,
    }
    asked = {name: value for name, value in wanted.items() if value is not None}
    asked["tenant"] = options.tenant
    return _print_key(call(options, "/admin/keys", asked))


def rotate(options: argparse.Namespace) -> int:
    asked: dict[str, Any] = {"id": options.id}
    if options.overlap is not None:
        asked["overlap_s"] = options.overlap
    return _print_key(call(options, "/admin/keys/rotate", asked))


def revoke(options: argparse.Namespace) -> int:
    done = call(options, "/admin/keys/revoke", {"id": options.id})
    if done is None:
        return EXIT_FAILED
    print(f"{done['id']} of {done['tenant']} is revoked")
    return _ended(done)


def listed(options: argparse.Namespace) -> int:
    found = call(options, "/admin/keys")
    if found is None:
        return EXIT_FAILED
    print(f"{'ID':<13}{'STATE':<9}{'TENANT':<20}{'PLAN':<10}{'ENDS':<6}{'EXPIRES':<19}SCOPES")
    for one in found["keys"]:
        until = _moment(one["expires_at"]) if one["expires_at"] else "never"
        print(
            f"{one['id']:<13}{one['state']:<9}{one['tenant']:<20}{one['plan'] or '-':<10}"
            f"{one['last']:<6}{until:<19}{','.join(one['scopes']) or 'all'}"
        )
    return EXIT_OK


def _print_key(made: Any) -> int:
    if made is None:
        return EXIT_FAILED
    until = f", until {_moment(made['expires_at'])}" if made["expires_at"] else ""
    print(f"Key {made['id']} for {made['tenant']}{until}. It is shown once:\n", file=sys.stderr)
    print(made["key"])
    return _ended(made)


def _ended(done: Any) -> int:
    if done["unaware"]:
        names = ", ".join(done["unaware"])
        print(f"\nNot yet known, as they are not reached, on: {names}", file=sys.stderr)
    if not done["kept"]:
        print(
            "\nThe node's disk does not take it (see its log). It holds now; a restart forgets it"
            " unless other nodes know it. Make room: the node goes on trying.",
            file=sys.stderr,
        )
        return EXIT_FAILED
    return EXIT_OK


def _moment(timestamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(timestamp))


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
