"""`promptedge purge`: forget answers, on every node, and say which nodes have done so."""

import argparse
import sys
from typing import Any

from edge.commands.calling import EXIT_FAILED, EXIT_OK, EXIT_USAGE, add_admin, call, read_request

EXIT_PARTLY = 3
"""Purged here, and not confirmed by all other nodes."""


def add(commands: Any) -> None:
    one = commands.add_parser("purge", help="make a running node and its fleet forget answers, now")
    add_admin(one)
    option = one.add_argument
    option("--everything", action="store_true", help="all answers of all tenants")
    option("--tenant", metavar="NAME", help="only this tenant's")
    label = one.add_mutually_exclusive_group()
    label.add_argument("--label", metavar="LABEL", help="only those with this label")
    label.add_argument("--model", metavar="NAME", help="only this model's")
    label.add_argument("--route", metavar="PATTERN", help="only this route's")
    option(
        "--request", metavar="FILE", help="only the answer to this chat request (JSON; - for stdin)"
    )
    option("--soft", action="store_true", help="make stale: fetched anew when asked for")
    option("--dry-run", action="store_true", help="only count what would go, on this node")
    option(
        "--wait",
        metavar="SECONDS",
        type=float,
        default=2.0,
        help="how long other nodes have to confirm it (default 2)",
    )
    one.set_defaults(run=purge)


def purge(options: argparse.Namespace) -> int:
    asked: dict[str, Any] = {"dry_run": options.dry_run, "soft": options.soft}
    asked["wait_s"] = options.wait
    for name in ("everything", "tenant", "label", "model", "route"):
        if value := getattr(options, name):
            asked[name] = value
    if not (options.request or asked.keys() & {"everything", "tenant", "label", "model", "route"}):
        print(
            "promptedge: say what to purge: --everything, --tenant, --label, --model, --route or"
            " --request",
            file=sys.stderr,
        )
        return EXIT_USAGE
    if options.request:
        asked["request"] = read_request(options.request)
    done = call(options, "/admin/purge", asked)
    if done is None:
        return EXIT_FAILED
    became = "stale" if options.soft else "purged"
    count = "1 answer" if done["matched"] == 1 else f"{done['matched']} answers"
    print(f"{count} {'would be ' if options.dry_run else ''}{became} on this node")
    if done["confirmed"]:
        print(f"confirmed by {', '.join(done['confirmed'])}")
    if done["unconfirmed"]:
        names = ", ".join(done["unconfirmed"])
        if done["revoked"]:
            said = f"NOT by {names}: this node was revoked and can tell nobody; purge on another"
        else:
            said = f"NOT YET by {names}: told before anything else when reached"
        print(said, file=sys.stderr)
        return EXIT_PARTLY
    return EXIT_OK
