"""How a running node is asked, and the options that several commands have."""

import argparse
import json
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge.config import Config

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
CALL_TIMEOUT_S = 30
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
UPSTREAM_KEY = "PROMPTEDGE_UPSTREAM_KEY"
"""The key for upstreams that are given by flag. In a file each upstream names its own."""

_NOT_THE_OPERATORS = ("not_found", "https_required")
"""What listeners for clients say to a command."""


class UsageError(Exception):
    """What was asked for on the command line cannot be done."""


def add_settings(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add_config(command)
    add(
        "--upstream",
        metavar="URL",
        action="append",
        help="base URL with /v1; repeatable, the nearest answers",
    )
    add("--listen", metavar="HOST:PORT", help="HTTPS and HTTP/3 (default 127.0.0.1:8443)")
    add("--plain", metavar="HOST:PORT", help="HTTP in clear text (default 127.0.0.1:8080)")
    add("--admin", metavar="HOST:PORT", help="probes, metrics, purge (default 127.0.0.1:9090)")
    add("--data", metavar="DIR", help="where answers are kept (default ./var)")


def add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", metavar="FILE", type=Path, help="settings, as TOML (see docs/configuration.md)"
    )


def add_admin(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--admin", metavar="HOST:PORT", default="127.0.0.1:9090", help="the node's admin listener"
    )


def config(options: argparse.Namespace) -> "Config":
    """The configuration, with the flags of `add_settings` over it. Raises ConfigError."""
    from edge.config import load  # and every part of a node

    names = ("listen", "plain", "admin", "data")
    node = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    flags: dict[str, Any] = {"node": node}
    if options.upstream:
        key = {"api_key_env": UPSTREAM_KEY} if os.environ.get(UPSTREAM_KEY) else {}
        flags["upstreams"] = [{"base_url": url, **key} for url in options.upstream]
    return load(options.config, os.environ, flags)


def call(options: argparse.Namespace, path: str, document: Any = None) -> Any:
    """The admin listener's answer; None when there is none, which is then said on stderr."""
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(
        f"http://{options.admin}{path}", body, {"content-type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=CALL_TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as exc:
        print(f"promptedge: {_told(exc, options.admin)}", file=sys.stderr)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "reason", exc)
        print(f"promptedge: no node answers at {options.admin}: {reason}", file=sys.stderr)
    return None


def _told(exc: urllib.error.HTTPError, admin: str) -> str:
    try:
        error = json.load(exc)["error"]
        if error["code"] in _NOT_THE_OPERATORS:
            return f"{admin} is where clients ask; give --admin the address of node.admin"
        return str(error["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"the node answered with status {exc.code}: its log says why"


def read_request(file: str) -> Any:
    """The request in a file, or on standard input. Raises UsageError."""
    try:
        return json.loads(sys.stdin.read() if file == "-" else Path(file).read_text("utf-8"))
    except OSError as exc:
        raise UsageError(f"{file}: {exc.strerror}") from exc
    except ValueError as exc:
        raise UsageError(f"{file}: not JSON: {exc}") from exc


def seconds(text: str) -> float:
    """The type of an argument that is a time, such as 30min."""
    found = re.fullmatch(r"([0-9]{1,6})(s|min|h|d)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: say 30min, 2h or 1d")
    return float(int(found[1]) * _UNITS[found[2]])
