"""What a newcomer and its host say to each other, as JSON, and what either may not say.

A body is read only after its sender was proven: the host by its certificate, the newcomer by the
secret of its token, which travels in a header.
"""

import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from pydantic import TypeAdapter, ValidationError

from sync import certificates

BYTES_MAX = 16 * 1024
"""Of an application. A request for a certificate is some 300 bytes."""
ADMISSION_BYTES_MAX = 64 * 1024 * 1024
"""A roster of as many nodes as there may be."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}")


class Refused(Exception):  # noqa: N818  an answer, not a fault of this side
    """Not enrolled: the message says why and what to do."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Application:
    """What a newcomer says of itself."""

    request: str
    """Its certificate request, PEM: proof that it has the key."""
    name: str
    """Empty: that of the invite, or one that is free."""
    region: str
    """Empty: that of the invite, or of the host."""
    address: str
    """Where others reach it; empty: they do not, it only dials."""
    now: float
    """Its clock, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a newcomer gets."""

    name: str
    certificate: str
    """PEM."""
    secret: str
    """The fleet's, which keys of answers are made with; hexadecimal."""
    roster: tuple[str, ...]
    """Its lines, hexadecimal."""
    operator_key: str | None
    """PEM; None for who may not invite."""


APPLICATION = TypeAdapter(Application)
ADMISSION = TypeAdapter(Admission)


def read_application(body: bytes) -> Application:
    """What a newcomer sent. Raises Refused."""
    try:
        return APPLICATION.validate_json(body, strict=True)
    except ValidationError as exc:
        raise Refused("Not an application to join: is that promptedge older or newer?") from exc


def requested_key(request: str) -> bytes:
    """The public key that signed a certificate request (PEM). Raises Refused."""
    try:
        read = x509.load_pem_x509_csr(request.encode())
        if not read.is_signature_valid:
            raise ValueError("signed by another key")
        return certificates.key_of(read)
    except (ValueError, TypeError, InvalidSignature) as exc:
        raise Refused("Not a certificate request of a node") from exc


def check_name(name: str) -> None:
    """Raises Refused."""
    if not _NAME.fullmatch(name):
        raise Refused(
            f"{name!r} is no name of a node: letters, digits and -._, up to 64, a letter first"
        )


def check_region(region: str) -> None:
    """Raises Refused."""
    if not _REGION.fullmatch(region):
        raise Refused(f"{region!r} is no region: letters, digits, - and _, up to 32")


def check_address(address: str) -> None:
    """Raises Refused."""
    if not _ADDRESS.fullmatch(address):
        raise Refused(f"{address!r} is not HOST:PORT")
