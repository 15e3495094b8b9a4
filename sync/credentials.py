"""What makes a node itself among others: its key, its name, its fleet. Kept in `DATA/fleet`.

    node.key       Ed25519: signs what this node says, and is the key of its certificate
    operator.key   Ed25519: the fleet's authority, on the nodes that may invite others
    node.pem       this node's certificate
    ca.pem         the authority's, written last: with it, the node belongs to a fleet

Every node has the first from its first start on, and with it a fleet of its own that nobody else is
in; `found` makes the rest when somebody is invited, `adopt` writes what another fleet gave.
"""

import datetime as dt
import hashlib
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from index.entry import NodeName
from sync import certificates
from sync.private_files import write_private

DIRECTORY = "fleet"


class CredentialsError(Exception):
    """A key or certificate that cannot be used; the message says which file and what to do."""


class Credentials:
    """A node's keys and certificates. `load` makes what a node must have."""

    def __init__(self, directory: Path, key: Ed25519PrivateKey, name: str) -> None:
        self.directory = directory
        self.key = key
        self.public_key = key.public_key().public_bytes_raw()
        self.name = certificates.node_name(name, self.public_key)
        """While the node is alone it follows the configuration; a certificate makes it final."""
        self.fleet = fleet_founded_by(self.public_key)
        """The fleet's id: signed with everything, so that no word of one counts in another."""
        self.operator: Ed25519PrivateKey | None = None
        self.authority: x509.Certificate | None = None
        self.certificate: x509.Certificate | None = None
        self._contexts: list[ssl.SSLContext] = []

    @classmethod
    def load(cls, data: Path, name: str) -> "Credentials":
        """What is in the data directory; a key is made if there is none. `name`: `[node] name`.

        Raises:
            CredentialsError: a file cannot be read, or does not belong to the others.
        """
        directory = data / DIRECTORY
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / "node.key"
        if not path.exists():
            write_private(path, _pem(Ed25519PrivateKey.generate()))
        loaded = cls(directory, _read_key(path), name)
        if (directory / "ca.pem").exists():
            loaded._read_fleet()
        return loaded

    @property
    def founded(self) -> bool:
        """Can others belong to this node's fleet?"""
        return self.authority is not None

    @property
    def operator_public_key(self) -> bytes | None:
        """Whose word counts about who belongs to the fleet; None while the node is alone."""
        return None if self.authority is None else certificates.key_of(self.authority)

    def sign(self, said: bytes) -> bytes:
        """64 bytes: this node said it."""
        return self.key.sign(said)

    def found(self, now: dt.datetime) -> None:
        """Make the operator's key and certificates, if there are none: others may be invited."""
        if self.founded:
            return
        operator = Ed25519PrivateKey.generate()
        authority = certificates.authority(operator, self.fleet, now)
        own = certificates.issue(operator, authority, self.public_key, self.name, now)
        self.adopt(authority, own, operator)

    def adopt(
        self,
        authority: x509.Certificate,
        certificate: x509.Certificate,
        operator: Ed25519PrivateKey | None,
    ) -> None:
        """Belong to the authority's fleet from now on.

        Raises:
            CredentialsError: these do not belong together, or not to this node. Nothing is written.
        """
        name, fleet = self._checked(authority, certificate, operator)
        key = self.directory / "operator.key"
        (self.directory / "ca.pem").unlink(missing_ok=True)  # half of two fleets is neither
        if operator is None:
            key.unlink(missing_ok=True)
        else:
            write_private(key, _pem(operator))
        write_private(self.directory / "node.pem", _pem(certificate))
        write_private(self.directory / "ca.pem", _pem(authority))
        self._become(name, fleet, authority, certificate, operator)

    def renew(self, certificate: x509.Certificate) -> None:
        """Show the next certificate from now on. Raises CredentialsError if it is not ours."""
        assert self.authority is not None
        name, _ = self._checked(self.authority, certificate, self.operator)
        if name != self.name:
            raise CredentialsError(f"a certificate for {name}, not for {self.name}")
        write_private(self.directory / "node.pem", _pem(certificate))
        self.certificate = certificate
        for context in self._contexts:
            self._show_certificate(context)

    def issue(self, public_key: bytes, name: NodeName, now: dt.datetime) -> x509.Certificate:
        """A certificate for a node of this fleet. The operator's key must be here."""
        assert self.operator is not None
        assert self.authority is not None
        return certificates.issue(self.operator, self.authority, public_key, name, now)

    # TLS: version 1.3, this fleet's authority and no other. The context of a renewed certificate
    # is the same as before, so listeners and clients never have to be made anew.

    def server_tls(self) -> ssl.SSLContext:
        """For the listener. Who joins has no certificate yet: the listener asks who is there."""
        context = _context(ssl.PROTOCOL_TLS_SERVER, self._authority_pem())
        context.verify_mode = ssl.CERT_OPTIONAL
        context.num_tickets = 0  # each connection proves itself anew
        self._show_certificate(context)
        self._contexts.append(context)
        return context

    def client_tls(self) -> ssl.SSLContext:
        """For dialling. Whom: `server_hostname=certificates.server_name(public_key)`."""
        context = client_tls(self._authority_pem())
        self._show_certificate(context)
        self._contexts.append(context)
        return context

    def _show_certificate(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self.directory / "node.pem", self.directory / "node.key")

    def _authority_pem(self) -> str:
        if self.authority is None:
            raise CredentialsError("this node is in no fleet: promptedge invite, or join")
        return _pem(self.authority).decode("ascii")

    # Reading.

    def _read_fleet(self) -> None:
        authority = _read_certificate(self.directory / "ca.pem")
        certificate = _read_certificate(self.directory / "node.pem")
        path = self.directory / "operator.key"
        operator = _read_key(path) if path.exists() else None
        try:
            name, fleet = self._checked(authority, certificate, operator)
        except CredentialsError as exc:
            raise CredentialsError(f"{self.directory}: {exc}: join the fleet again") from exc
        self._become(name, fleet, authority, certificate, operator)

    def _become(
        self,
        name: NodeName,
        fleet: bytes,
        authority: x509.Certificate,
        certificate: x509.Certificate,
        operator: Ed25519PrivateKey | None,
    ) -> None:
        self.name, self.fleet = name, fleet
        self.authority, self.certificate, self.operator = authority, certificate, operator

    def _checked(
        self,
        authority: x509.Certificate,
        certificate: x509.Certificate,
        operator: Ed25519PrivateKey | None,
    ) -> tuple[NodeName, bytes]:
        """Name and fleet. Raises CredentialsError if anything does not belong to the rest."""
        try:
            name, fleet = certificates.name_of(certificate), certificates.fleet_of(authority)
            certificate.verify_directly_issued_by(authority)
        except Exception as exc:
            raise CredentialsError("the certificate is not one of this fleet") from exc
        if certificates.key_of(certificate) != self.public_key:
            raise CredentialsError("the certificate is for another key than node.key")
        if operator and operator.public_key() != authority.public_key():
            raise CredentialsError("operator.key is not the key of this fleet")
        return name, fleet

    def __repr__(self) -> str:
        kind = "operator" if self.operator else "member" if self.founded else "alone"
        return f"<Credentials {self.name} {kind}>"


def fleet_founded_by(public_key: bytes) -> bytes:
    """The id of the fleet that a node with this key is in before it joins any other: 16 bytes."""
    return hashlib.sha256(b"promptedge fleet" + public_key).digest()[: certificates.FLEET_BYTES]


def client_tls(authority_pem: str) -> ssl.SSLContext:
    """For who has no certificate, and trusts this authority alone."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, authority_pem)
    context.hostname_checks_common_name = False
    return context


def _context(protocol: int, authority_pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=authority_pem)
    return context


def _pem(one: Ed25519PrivateKey | x509.Certificate) -> bytes:
    if isinstance(one, x509.Certificate):
        return one.public_bytes(serialization.Encoding.PEM)
    return one.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _read_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as exc:
        raise CredentialsError(f"{path}: cannot be read as a private key: {exc}") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise CredentialsError(f"{path}: is not an Ed25519 key")
    return key


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise CredentialsError(f"{path}: cannot be read as a certificate: {exc}") from exc
