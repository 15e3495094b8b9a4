"""`promptedge upstream list | drain | resume`: how a node's upstreams are; which get nothing."""

import argparse
import datetime as dt
import getpass
import json
from collections.abc import Mapping
from typing import Any

from edge.commands.calling import EXIT_FAILED, EXIT_OK, add_admin, call


def add(commands: Any) -> None:
    one = commands.add_parser("upstream", help="list, drain or resume the upstreams of a node")
    acts = one.add_subparsers(required=True, metavar="ACT")

    act = acts.add_parser("list", help="how each is: state, requests in flight, first tokens")
    add_admin(act)
    act.add_argument("--json", action="store_true", help="everything, as JSON")
    act.set_defaults(run=listed)

    for name, what in (
        ("drain", "send it no new requests; those under way finish"),
        ("resume", "send it requests again"),
    ):
        act = acts.add_parser(name, help=what)
        add_admin(act)
        act.add_argument("name", metavar="NAME", help="its name, as `list` shows it")
        act.add_argument("--by", metavar="WHO", default=_me(), help="who says so (default: you)")
        act.set_defaults(run=changed, act=name)


def listed(options: argparse.Namespace) -> int:
    found = call(options, "/admin/upstreams")
    if found is None:
        return EXIT_FAILED
    print(json.dumps(found, indent=2) if options.json else _table(found))
    return EXIT_OK


def changed(options: argparse.Namespace) -> int:
    found = call(options, "/admin/upstreams", {options.act: options.name, "by": options.by})
    if found is None:
        return EXIT_FAILED
    (one,) = (one for one in found["upstreams"] if one["name"] == options.name)
    flight = f", {one['in_flight']} in flight" if one["in_flight"] else ""
    print(f"{one['name']}: {one['state']}{_drained(one)}{flight}")
    return EXIT_OK


def _table(found: Mapping[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [
        ("NAME", "TIER", "REGION", "STATE", "IN FLIGHT", "FIRST TOKEN", "TOKENS/S")
    ]
    rows += [_row(one) for one in found["upstreams"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines += [
        f"maintenance of {one['upstream']}: {_time(one['begins'])} to {_time(one['ends'])}"
        + (" (now)" if one["now"] else "")
        for one in found["maintenance"]
    ]
    return "\n".join(lines)


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    state = one["state"] + _drained(one)
    if one["retry_in_s"]:
        state += f", {one['retry_in_s']:.0f} s"
    return (
        one["name"],
        one["tier"],
        one["region"] or "-",
        state,
        str(one["in_flight"]),
        "-" if one["ttft_s"] is None else f"{one['ttft_s']:.2f} s",
        "-" if one["tokens_per_s"] is None else f"{one['tokens_per_s']:.0f}",
    )


def _drained(one: Mapping[str, Any]) -> str:
    if one["drained_since"] is None:
        return ""
    by = f" by {one['drained_by']}" if one["drained_by"] else ""
    return f" since {_time(one['drained_since'])}{by}"


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user that has no name
        return ""


def _time(timestamp: float) -> str:
    return dt.datetime.fromtimestamp(timestamp, dt.UTC).strftime("%Y-%m-%d %H:%MZ")
