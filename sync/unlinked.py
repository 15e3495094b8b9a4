"""Why there is no link with a node, in words for whoever has to mend it."""

import errno
import os

import aiohttp

NO_ADDRESS = (
    "it has not said where it can be dialled, so it is only heard while it dials this node: set "
    "[sync] listen there, and address if others see it under another"
)
ENDED = "the link ended: it is dialled again"
BUG = "a bug of this node's: its log has it under event=bug"
REVOKED = (
    "this node was revoked: others tell it nothing and take nothing from it; to belong to the "
    "fleet again it needs a new data directory, and a token"
)
_REFUSALS = {
    401: "it was not shown the certificate of a node: there may be no proxy in between",
    403: (
        "it does not know this node: it has not heard yet that this one joined, or its data "
        "directory is an old copy"
    ),
    404: "something else than promptedge answers there: see [sync] address of that node",
    410: REVOKED,
    503: "it feeds as many nodes as it can ([sync] links_max there), or is about to stop",
}


class Unlinked(Exception):  # noqa: N818  what became of an attempt
    """No link, and why not."""


def unlinked(exc: Exception, address: str) -> Unlinked:
    """What became of dialling `address`."""
    return Unlinked(_why(exc, address))


def _why(exc: Exception, address: str) -> str:
    match exc:
        case aiohttp.WSServerHandshakeError(status=status):
            return _REFUSALS.get(status, f"{address} refused with status {status}: see its log")
        case aiohttp.ClientConnectorCertificateError():
            return (
                f"another node answers at {address}, or the clock here or there is wrong: see "
                "[sync] address of that node"
            )
        case aiohttp.InvalidURL() | ValueError():
            return f"{address!r} is no HOST:PORT: see [sync] address of that node"
        case TimeoutError():
            return f"no answer from {address} in time: is there a firewall, is the machine up?"
        case aiohttp.ClientConnectorDNSError():
            return f"the name in {address} is not known here: see the DNS, or set [sync] address"
        case aiohttp.ClientSSLError():
            return f"no TLS with {address}: does something else than promptedge answer there?"
        case aiohttp.ServerDisconnectedError():
            return f"{address} hung up: it is about to stop, or something in between did"
        case aiohttp.ClientOSError(errno=number) | OSError(errno=number) if number:
            return _of_system(number, address)
        case _:
            return f"{address} cannot be dialled: {exc or type(exc).__name__}"


def _of_system(number: int, address: str) -> str:
    if number == errno.ECONNREFUSED:
        return f"nothing listens at {address}: is that node running, with that [sync] listen?"
    return f"{address} cannot be reached: {os.strerror(number)}"
