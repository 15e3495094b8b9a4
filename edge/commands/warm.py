"""`promptedge warm`: fill caches before anybody asks. Options in, exit code out."""

import argparse
import asyncio
import re
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge.commands.snapshot import give
from index.entry import TTL_MAX_S
from sync.snapshot import MAGIC
from sync.warmup.gate import RealClock
from sync.warmup.job import Order
from sync.warmup.journal import JournalError
from sync.warmup.lines import Defaults
from sync.warmup.plan import Budget, Prices, QuietHours, Rate, seconds
from sync.warmup.report import EXIT_INTERRUPTED, EXIT_USAGE
from sync.warmup.run import Warmup, WarmupError, warm

_ABOUT = """\
FILE is JSON Lines: plain prompts ("text" or {"prompt": …}), chat requests, or the input of an
OpenAI batch; with --requests it is the output of one. Or it is what promptedge export wrote.
Each line becomes a request that the node answers by the rules of all requests, and keeps. The same
command goes on where an interrupted one was.
Exit codes: 0 done, 1 some lines came to nothing, 2 could not begin, 3 stopped (budget, or one line
after the other failed), 130 interrupted."""


def add(commands: Any) -> None:
    one = commands.add_parser(
        "warm",
        help="fill caches before anybody asks",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("file", metavar="FILE", help="what to ask, as JSON Lines (- for stdin)")
    group = one.add_argument_group("what is asked")
    group.add_argument("--requests", metavar="FILE", type=Path, help=_REQUESTS)
    group.add_argument("--model", metavar="NAME", help="for lines that name none")
    group.add_argument("--system", metavar="TEXT", help="system prompt for lines without one")
    group.add_argument("--refresh", action="store_true", help="ask again what is cached")
    group.add_argument("--strict", action="store_true", help="do nothing if a line is bad")
    group.add_argument("--dry-run", action="store_true", help="say what would be asked, and cost")

    group = one.add_argument_group("where it is kept, and how")
    group.add_argument("--node", metavar="URL", action="append", help=_NODE)
    group.add_argument("--tenant", metavar="NAME", help="whose answers they are")
    group.add_argument("--job", metavar="NAME", help="labels all with warm:NAME (default: FILE)")
    group.add_argument("--label", metavar="NAME", action="append", default=[], help=_LABEL)
    group.add_argument("--ttl", metavar="TIME", type=_ttl, help="12h, 7d; default: the node's")
    group.add_argument("--pin", action=argparse.BooleanOptionalAction, default=True, help=_PIN)

    group = one.add_argument_group("how fast, when, for how much")
    group.add_argument("--rate", metavar="N/s", type=_rate, default=Rate(), help="2/s, 30/min")
    group.add_argument("--concurrency", metavar="N", type=_positive, default=4, help="default 4")
    group.add_argument("--between", metavar="HH:MM-HH:MM", help="ask in these hours only")
    group.add_argument("--timezone", metavar="NAME", help="of --between, such as Europe/Berlin")
    group.add_argument("--budget-tokens", metavar="N", type=_positive, help="stop before more")
    group.add_argument("--budget-usd", metavar="USD", type=_amount, help="likewise; needs prices")
    group.add_argument(
        "--price-in", metavar="USD", type=_amount, default=0.0, help=f"{_PRICE} prompts"
    )
    group.add_argument(
        "--price-out", metavar="USD", type=_amount, default=0.0, help=f"{_PRICE} answers"
    )

    group = one.add_argument_group("files")
    group.add_argument("--state", metavar="FILE", type=Path, help=_STATE)
    group.add_argument("--restart", action="store_true", help="forget what was done before")
    group.add_argument("--report", metavar="FILE", type=Path, help=_REPORT)
    one.set_defaults(run=run)


_REQUESTS = "FILE is the output of a batch; this was its input. Nothing is asked"
_NODE = "admin listener (default http://127.0.0.1:9090); repeatable: the first asks, all get it"
_LABEL = "a label to purge them by; repeatable"
_PIN = "keep them until they expire, whatever room is needed (default)"
_PRICE = "dollars for a million tokens of"
_STATE = "what was done (default: FILE.warm-journal; none for stdin)"
_REPORT = "what became of each line, as JSON (default: FILE.warm-report.json)"


def run(options: argparse.Namespace) -> int:
    try:
        asked = _warmup(options)
        if asked.path and _is_snapshot(asked.path):
            return _import(asked.path, asked.nodes, options)
        done = asyncio.run(warm(asked, RealClock(), sys.stdin.buffer, sys.stderr))
    except (WarmupError, JournalError, ValueError) as exc:
        print(f"promptedge: {exc}", file=sys.stderr)
        return EXIT_USAGE
    except OSError as exc:
        print(f"promptedge: {exc.filename or options.file}: {exc.strerror}", file=sys.stderr)
        return EXIT_USAGE
    except (asyncio.CancelledError, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    print(done.text())
    if asked.report_path and not options.dry_run:
        print(f"report: {asked.report_path}")
    return done.exit_code


def _warmup(options: argparse.Namespace) -> Warmup:
    """Raises ValueError."""
    path = None if options.file == "-" else Path(options.file)
    name = options.job or _name(path)
    prices = Prices(options.price_in, options.price_out)
    if options.budget_usd is not None and not prices.known:
        raise ValueError("--budget-usd needs --price-in and --price-out")
    return Warmup(
        path=path,
        nodes=tuple(options.node or ["http://127.0.0.1:9090"]),
        name=name,
        order=Order(
            tenant=options.tenant,
            labels=tuple(sorted({*options.label, f"warm:{name}"})),
            ttl_s=options.ttl,
            pin=options.pin,
            refresh=options.refresh,
            dry_run=options.dry_run,
        ),
        defaults=Defaults(options.model, options.system),
        requests=options.requests,
        rate=options.rate,
        quiet=_quiet(options.between, options.timezone),
        concurrency=options.concurrency,
        budget=Budget(prices, options.budget_tokens, options.budget_usd),
        state=options.state,
        report=options.report,
        restart=options.restart,
        strict=options.strict,
    )


def _is_snapshot(path: Path) -> bool:
    """Is it a regular file that a node exported?"""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _import(path: Path, nodes: tuple[str, ...], options: argparse.Namespace) -> int:
    """A snapshot holds answers without their requests: it is given as it is. Raises ValueError."""
    said = [name for name in _NOT_OF_SNAPSHOTS if getattr(options, name)]
    if said:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in said)
        raise ValueError(f"{path} is a node's export, which keeps its own: {names} says nothing")
    with path.open("rb") as file:
        return give(file, list(nodes))


_NOT_OF_SNAPSHOTS = (
    *("requests", "model", "system", "refresh", "dry_run"),
    *("tenant", "job", "label", "ttl"),
)


def _name(path: Path | None) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem) if path else "stdin"


def _quiet(between: str | None, timezone: str | None) -> QuietHours | None:
    if between is None:
        if timezone:
            raise ValueError("--timezone says where --between is meant, which is missing")
        return None
    try:
        zone = ZoneInfo(timezone) if timezone else None
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(f"the time zone {timezone!r} is not known on this machine") from exc
    return QuietHours.read(between, zone)


def _ttl(text: str) -> float:
    try:
        ttl_s = seconds(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    if ttl_s > TTL_MAX_S:
        raise argparse.ArgumentTypeError(f"at most {int(TTL_MAX_S // 86_400)} days")
    return ttl_s


def _rate(text: str) -> Rate:
    try:
        return Rate.read(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of money")
    return amount
