"""`promptedge export` and `promptedge import`: snapshots out of a node and into one, by pipe."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO, Any

import aiohttp

from edge.commands.calling import EXIT_FAILED, EXIT_OK, EXIT_USAGE, add_admin
from sync.snapshot import MEDIA_TYPE
from sync.warmup.nodes import base_url

CHUNK_BYTES = 256 * 1024
SILENCE_S_MAX = 120.0
"""A node that says nothing for so long will not say anything."""


class TransferError(Exception):
    """The message says what became of it."""


def add(commands: Any) -> None:
    one = commands.add_parser("export", help="write what a node remembers to standard output")
    one.add_argument("--tenant", metavar="NAME", help="only this tenant's answers")
    one.add_argument("--model", metavar="NAME", help="only this model's")
    one.add_argument("--label", metavar="NAME", help="only what has this label")
    add_admin(one)
    one.set_defaults(run=export)

    one = commands.add_parser("import", help="give a node what an export wrote")
    one.add_argument("file", metavar="FILE", help="the snapshot (- for stdin)")
    add_admin(one)
    one.set_defaults(run=import_)


def export(options: argparse.Namespace) -> int:
    if sys.stdout.isatty():
        print("promptedge: an export is not for a terminal: add > FILE, or a pipe", file=sys.stderr)
        return EXIT_USAGE
    wanted = {name: getattr(options, name) for name in ("tenant", "model", "label")}
    asked = {name: value for name, value in wanted.items() if value is not None}
    return _run(_export(options.admin, asked, sys.stdout.buffer))


def import_(options: argparse.Namespace) -> int:
    if options.file == "-":
        return give(sys.stdin.buffer, [options.admin])
    try:
        with Path(options.file).open("rb") as file:
            return give(file, [options.admin])
    except OSError as exc:
        print(f"promptedge: {options.file}: {exc.strerror}", file=sys.stderr)
        return EXIT_USAGE


def give(file: IO[bytes], nodes: list[str]) -> int:
    """Give every node the snapshot in `file`, from where it stands; several: it can be sought in.
    Returns the exit code: of the worst."""
    worst = EXIT_OK
    for node in nodes:
        if len(nodes) > 1:
            file.seek(0)
        worst = max(worst, _run(_import(node, file)))
    return worst


def _run(work: Any) -> int:
    try:
        return int(asyncio.run(work))
    except (TransferError, ValueError) as exc:
        print(f"promptedge: {exc}", file=sys.stderr)
    except KeyboardInterrupt:
        print("promptedge: interrupted: this is not all of it", file=sys.stderr)
    return EXIT_FAILED


async def _export(node: str, asked: Mapping[str, str], out: IO[bytes]) -> int:
    url = base_url(node)
    count = 0
    try:
        async with (
            _session() as session,
            session.get(f"{url}/admin/export", params=asked, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise TransferError(await _message(response, url))
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                await asyncio.to_thread(out.write, chunk)
                count += len(chunk)
    except aiohttp.ClientPayloadError as exc:
        raise TransferError(
            f"{url} broke off after {count} bytes: that is no whole snapshot"
        ) from exc
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise TransferError(f"no node answers at {url}: {exc}") from exc
    out.flush()
    return EXIT_OK


async def _import(node: str, file: IO[bytes]) -> int:
    url = base_url(node)
    try:
        async with (
            _session() as session,
            session.post(
                f"{url}/admin/import",
                data=_chunks(file),
                headers={"content-type": MEDIA_TYPE},
                allow_redirects=False,
            ) as response,
        ):
            if response.status not in (200, 422):
                raise TransferError(await _message(response, url))
            told = await response.json()
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise TransferError(
            f"{url} broke off, or does not answer ({exc}): what it took stays, import it again"
        ) from exc
    print(_told(url, told))
    if told["error"]:
        raise TransferError(f"{told['error']}: what came after was not taken")
    return EXIT_OK


def _told(url: str, told: Mapping[str, Any]) -> str:
    not_taken = ", ".join(f"{count} {why}" for why, count in told["not_taken"].items() if count)
    return (
        f"{url} took {told['taken']} answers of {told['entries']}, and {told['purges']} purges"
        + (f"; not taken: {not_taken}" if not_taken else "")
    )


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield chunk


def _session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=SILENCE_S_MAX)
    return aiohttp.ClientSession(timeout=timeout, trust_env=False)


async def _message(response: aiohttp.ClientResponse, url: str) -> str:
    try:
        message = (await response.json(content_type=None))["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"status {response.status} from {url}"
    return str(message).rstrip(".")
