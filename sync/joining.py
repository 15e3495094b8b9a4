"""How a node comes to belong to a fleet: the side that asks, before the node has started.

TLS trusts the token's authority alone, and only the host that the token names: the secret is told
to nobody else, and what comes back is from the fleet. Whatever goes wrong is said in a sentence
that ends in what to do.
"""

import base64
import json
import os
import ssl
from contextlib import closing
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from index.entry import Timestamp
from sync import certificates
from sync.application import ADMISSION, ADMISSION_BYTES_MAX, Application
from sync.credentials import (
    Credentials,
    CredentialsError,
    client_tls,
    fleet_file,
    pem,
    private_key,
)
from sync.roster import Enrolment, Roster
from sync.tokens import Token

TIMEOUT_S = 10.0
"""Of each step: to connect, to be answered."""


class JoinError(Exception):
    """The node did not join; the message says why and what to do. Nothing has changed."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What makes a node a member. Nothing of it is on disk yet."""

    credentials: Credentials
    secret: bytes
    """The fleet's, which keys of answers are made with."""
    roster: tuple[bytes, ...]
    """Its lines, verified."""
    members: tuple[Enrolment, ...]
    """What each of these says."""


def join(
    token: Token, data: Path, key: Ed25519PrivateKey, name: str, region: str, address: str,
    now: Timestamp,
) -> Joined:  # fmt: skip
    """Ask the token's host to let this node in; waits for it. `region` and `address` may be empty.

    Raises:
        JoinError: it did not, or what it answered cannot be used.
    """
    try:
        authority = x509.load_der_x509_certificate(token.authority)
        request = certificates.request(key).public_bytes(serialization.Encoding.PEM).decode()
        said = Application(request, name, region, address, now)
        connection = _Https(token, client_tls(pem(authority).decode("ascii")))
        return _joined(_exchange(token, connection, said), authority, data, key)
    except (ValueError, ssl.SSLError, CredentialsError) as exc:
        raise JoinError(f"{token.address} and its token make no sense: {exc}") from exc


class _Https(HTTPConnection):
    """To where the token says, and to nobody but whom it says."""

    def __init__(self, token: Token, tls: ssl.SSLContext) -> None:
        super().__init__(token.address, timeout=TIMEOUT_S)
        self._tls = tls
        self._name = certificates.server_name(token.host)

    def connect(self) -> None:
        super().connect()
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def _exchange(token: Token, connection: HTTPConnection, said: Application) -> bytes:
    """What the host answered, if that is yes. Raises JoinError."""
    secret = base64.urlsafe_b64encode(token.secret).decode().rstrip("=")
    fields = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    try:
        with closing(connection):
            connection.request("POST", "/v1/join", json.dumps(asdict(said)), fields)
            response = connection.getresponse()
            body = response.read(ADMISSION_BYTES_MAX)
    except ssl.SSLCertVerificationError as exc:
        raise JoinError(_distrusted(token, exc)) from exc
    except (HTTPException, OSError) as exc:
        raise JoinError(
            f"{token.address} cannot be reached ({_reason(exc)}): is the node that made the token "
            "running, and can this machine reach it there ([sync] listen and address)?"
        ) from exc
    if response.status != 200:
        raise JoinError(_message(token, response.status, body))
    return body


def _distrusted(token: Token, error: ssl.SSLCertVerificationError) -> str:
    match error.verify_code:
        case 9 | 10:  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
            return (
                f"The certificate of {token.address} is not valid at this hour: "
                "is the clock of this machine right?"
            )
        case _:
            return (
                f"Whoever answers at {token.address} is not the node that made this token: "
                "make a new one there, with promptedge invite, and see that the address is its own"
            )


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error) or type(error).__name__


def _message(token: Token, status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{token.address} answered with status {status}: is it a promptedge?"


def _joined(body: bytes, authority: x509.Certificate, data: Path, key: Ed25519PrivateKey) -> Joined:
    """Raises ValueError or CredentialsError for what does not fit together."""
    given = ADMISSION.validate_json(body, strict=True)  # pydantic's error is a ValueError
    operator = private_key(given.operator_key.encode()) if given.operator_key else None
    certificate = x509.load_pem_x509_certificate(given.certificate.encode())
    credentials = Credentials(fleet_file(data), key, authority, certificate, operator)
    roster = Roster(credentials.operator_public_key)
    for line in given.roster:
        roster.merge(bytes.fromhex(line))
    if roster.member(credentials.name) is None:
        raise ValueError("a roster without this node")
    return Joined(credentials, bytes.fromhex(given.secret), tuple(roster.lines()), tuple(roster))
