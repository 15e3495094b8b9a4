"""The command line: reads arguments, calls, prints. Nothing is decided here.

promptedge serve    run a node
promptedge check    read the configuration and say whether a node could start with it
promptedge status   ask a running node how it is
promptedge purge    make a running node forget answers, now
promptedge explain  ask a running node why it served an answer by meaning, or did not
promptedge invite   let one node join the fleet of a running one
promptedge join     make the node in a directory a member of a fleet
promptedge revoke   shut a node out of the fleet, now
promptedge keys     make, list, rotate and revoke API keys, on all nodes at once
promptedge nats-permissions, promptedge nats-streams   what NATS servers must know, and keep
promptedge warm     fill caches before anybody asks
promptedge export   write what a node remembers to standard output
promptedge import   give a node what an export wrote
promptedge upstream list, drain, resume   how a running node's upstreams are
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import urllib.parse
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from edge.commands.calling import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    UsageError,
    add_admin,
    add_settings,
    call,
    read_request,
)
from edge.commands.calling import config as configured
from edge.commands.compact import compact

SWITCH_S = 0.0005
"""For how long a thread that computes keeps the interpreter from the loop. With Python's 5 ms each
thing that a request waits for would take as much longer."""
HERE = ("serve", "check", "status", "explain", "--version")
ELSEWHERE = {
    "purge": "purging",
    **dict.fromkeys(("invite", "join", "revoke"), "membership"),
    "keys": "keys",
    **dict.fromkeys(("nats-permissions", "nats-streams"), "nats"),
    "warm": "warm",
    **dict.fromkeys(("export", "import"), "snapshot"),
    "upstream": "upstreams",
}
"""Commands, and the modules of `edge.commands` that they are in."""


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(*arguments[:1]).parse_args(arguments)
    try:
        return int(options.run(options))
    except UsageError as exc:
        print(f"promptedge: {exc}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        return EXIT_FAILED
    except Exception as exc:
        from edge.config import ConfigError  # and every part of a node, which most do without

        if not isinstance(exc, ConfigError):
            raise
        print(f"promptedge: configuration:\n{exc}", file=sys.stderr)
        return EXIT_USAGE


def serve(options: argparse.Namespace) -> int:
    config = configured(options)
    import uvloop

    from edge import log
    from edge.identity import IdentityError
    from edge.listen import ListenError
    from edge.node import Node
    from edge.preflight import check_files
    from index.database import DirectoryInUse
    from sync.credentials import CredentialsError
    from sync.jetstream.client import NatsError

    check_files(config, os.environ)
    log.set_up(config.log.level)

    async def run() -> None:
        node = Node(config, os.environ)
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, node.shut_down)
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()  # all that was imported stays: to look through it again takes 75 ms each time
        await node.run()

    try:
        uvloop.run(run())
    except (ListenError, IdentityError, DirectoryInUse, CredentialsError, NatsError) as exc:
        print(f"promptedge: {exc}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as exc:
        print(f"promptedge: {config.node.data}: {exc}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def check(options: argparse.Namespace) -> int:
    config = configured(options)
    from edge.preflight import check_files, warnings

    check_files(config, os.environ)
    for found in warnings(config):
        print(f"promptedge: warning: {found}", file=sys.stderr)
    print("The configuration is good.")
    return EXIT_OK


def status(options: argparse.Namespace) -> int:
    facts = call(options, "/admin/status")
    if facts is None:
        return EXIT_FAILED
    print(compact(facts))
    return EXIT_OK if facts.get("state") == "ready" else EXIT_FAILED


def explain(options: argparse.Namespace) -> int:
    if bool(options.request_id) == bool(options.request):
        print("promptedge: give either REQUEST_ID or --request FILE", file=sys.stderr)
        return EXIT_USAGE
    if options.request_id:
        query = urllib.parse.urlencode({"request_id": options.request_id})
        found = call(options, f"/admin/explain?{query}")
    else:
        asked = {"request": read_request(options.request)}
        if options.tenant:
            asked["tenant"] = options.tenant
        found = call(options, "/admin/explain", asked)
    if found is None:
        return EXIT_FAILED
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else _told(found))
    return EXIT_OK


def _told(found: dict[str, Any]) -> str:
    """A decision, for people."""
    lines = [f"asked    {found['asked'] or '(not by meaning)'}"]
    lines.append(f"outcome  {'served: ' + found['served'] if found['served'] else 'miss'}")
    if found["reason"]:
        lines.append(f"reason   {found['reason']}")
    if bound := found["bound"]:
        lines.append(
            f"bound    at most {bound['max_error']:.1%} wrong; so far {bound['estimate']:.2%}"
            f" ({bound['low']:.2%} to {bound['high']:.2%}), {bound['labels']} checked of"
            f" {bound['semantic_hits']} hits, class {bound['class']}"
        )
    for one in found["candidates"]:
        cut = "closed" if one["cut"] is None else f"{one['cut']:.1f}"
        words = one["words"]
        lines.append(
            f"{'*' if one['passes'] else ' '} {one['similarity']:.3f}  score {one['score']:5.2f}"
            f"  cut {cut:>6}  {one['stratum']:<11} words {words['matched']} agree,"
            f" {words['asked']}+{words['cached']} do not  {one['question']}"
        )
    return "\n".join(lines)


def _parser(command: str = "") -> argparse.ArgumentParser:
    """Of one command, or of all if that is none: to import them all takes a second."""
    parser = argparse.ArgumentParser(
        prog="promptedge", description="A CDN node for LLM prompts.", epilog="See docs/ for more."
    )
    parser.add_argument(
        "--version", action="version", version=f"promptedge {version('promptedge')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("serve", help="run a node")
    add_settings(one)
    one.set_defaults(run=serve)

    one = commands.add_parser("check", help="say whether a node could start with a configuration")
    add_settings(one)
    one.set_defaults(run=check)

    one = commands.add_parser("status", help="ask a running node how it is")
    add_admin(one)
    one.set_defaults(run=status)

    one = commands.add_parser("explain", help="say why an answer was served by meaning, or not")
    add_admin(one)
    add = one.add_argument
    add("request_id", nargs="?", metavar="REQUEST_ID", help="the X-Request-Id of a recent answer")
    add(
        "--request", metavar="FILE", help="or a chat request, decided as of now (JSON; - for stdin)"
    )
    add("--tenant", metavar="NAME", help="whose request that is")
    add("--json", action="store_true", help="everything, as JSON")
    one.set_defaults(run=explain)
    if command not in HERE:
        found = ELSEWHERE.get(command)
        for module in (found,) if found else dict.fromkeys(ELSEWHERE.values()):
            import_module(f"edge.commands.{module}").add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
