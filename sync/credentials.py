"""What makes a node itself among others: its key, its name, its fleet. Kept in `DATA/fleet`.

    node.key    Ed25519: signs what this node says, and is the key of its certificate
    fleet.pem   this node's certificate, with its name; the operator's certificate, which all of the
                fleet are signed with; on nodes that may invite others, the operator's private key

At its first start a node makes both: a fleet of its own, that others may be invited to, and that it
leaves when it joins another. One file holds a fleet, so that no crash leaves half of two.
"""

import datetime as dt
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from index.entry import NodeName
from sync import certificates
from sync.certificates import fleet_id, node_name
from sync.private_files import write_private

DIRECTORY = "fleet"


class CredentialsError(Exception):
    """A key or certificate that cannot be used; the message says which file and what to do."""


class Credentials:
    """A node's keys and certificates, as read or made by `load`."""

    def __init__(
        self,
        path: Path,
        key: Ed25519PrivateKey,
        authority: x509.Certificate,
        certificate: x509.Certificate,
        operator: Ed25519PrivateKey | None,
    ) -> None:
        """Raises CredentialsError if these do not belong together."""
        self._path = path
        self.key = key
        self.public_key = key.public_key().public_bytes_raw()
        self.authority = authority
        self.certificate = certificate
        self.operator = operator
        """None on a node that may not say who belongs to the fleet."""
        self.operator_public_key = _operator_of(authority)
        self.fleet = fleet_id(self.operator_public_key)
        """Signed with everything, so that no word of one fleet counts in another: 16 bytes."""
        self.name = _checked(self, certificate)
        self._contexts: list[ssl.SSLContext] = []

    @classmethod
    def load(cls, data: Path, name: str, now: dt.datetime) -> "Credentials":
        """What is in the data directory. At the first start it is made, for a node called `name`.

        Raises:
            CredentialsError: a file cannot be read, or does not belong to the others.
        """
        key = node_key(data)
        path = fleet_file(data)
        if not path.exists():
            return cls._found(path, key, name, now)
        try:
            content = path.read_bytes()
            own, authority = x509.load_pem_x509_certificates(content)
            operator = _operator_key(content)
            return cls(path, key, authority, own, operator)
        except (OSError, ValueError, CredentialsError) as exc:
            raise CredentialsError(f"{path}: cannot be used: {exc}: join the fleet again") from exc

    @classmethod
    def _found(
        cls, path: Path, key: Ed25519PrivateKey, name: str, now: dt.datetime
    ) -> "Credentials":
        operator = Ed25519PrivateKey.generate()
        authority = certificates.authority(operator, now)
        public_key = key.public_key().public_bytes_raw()
        own = certificates.issue(operator, authority, public_key, node_name(name, public_key), now)
        founded = cls(path, key, authority, own, operator)
        founded.save()
        return founded

    def save(self) -> None:
        """Belong to this fleet from now on, also after a restart."""
        content = pem(self.certificate) + pem(self.authority)
        write_private(self._path, content + (pem(self.operator) if self.operator else b""))

    def sign(self, said: bytes) -> bytes:
        """64 bytes: this node said it."""
        return self.key.sign(said)

    def renew(self, certificate: x509.Certificate) -> None:
        """Show this one from now on. Raises CredentialsError if it is not ours."""
        if _checked(self, certificate) != self.name:
            raise CredentialsError("the certificate is for another name")
        self._show(certificate)

    def rename(self, name: str, now: dt.datetime) -> None:
        """Be called that. For a node that nobody else knows; the operator's key must be here."""
        self.name = node_name(name, self.public_key)
        self._show(self.issue(self.public_key, self.name, now))

    def issue(self, public_key: bytes, name: NodeName, now: dt.datetime) -> x509.Certificate:
        """A certificate for a node of this fleet. The operator's key must be here."""
        assert self.operator is not None
        return certificates.issue(self.operator, self.authority, public_key, name, now)

    # TLS: version 1.3, this fleet's authority and no other. The context of a renewed certificate
    # is the same as before, so listeners and clients never have to be made anew.

    def server_tls(self) -> ssl.SSLContext:
        """For the listener. Who joins has no certificate yet: the listener asks who is there."""
        context = _context(ssl.PROTOCOL_TLS_SERVER, self.authority_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.num_tickets = 0  # each connection proves itself anew
        self._show_certificate(context)
        self._contexts.append(context)
        return context

    def client_tls(self) -> ssl.SSLContext:
        """For dialling. Whom: `server_hostname=server_name(key_hash(public_key))`."""
        context = client_tls(self.authority_pem)
        self._show_certificate(context)
        self._contexts.append(context)
        return context

    def _show(self, certificate: x509.Certificate) -> None:
        self.certificate = certificate
        self.save()
        for context in self._contexts:
            self._show_certificate(context)

    def _show_certificate(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._path, self._path.with_name("node.key"))

    @property
    def authority_pem(self) -> str:
        return pem(self.authority).decode("ascii")

    def __repr__(self) -> str:
        return f"<Credentials {self.name}{' operator' if self.operator else ''}>"


def node_key(data: Path) -> Ed25519PrivateKey:
    """The key of the node in this directory; made if there is none. Raises CredentialsError."""
    directory = data / DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / "node.key"
    if not path.exists():
        write_private(path, pem(Ed25519PrivateKey.generate()))
    return _read_key(path)


def fleet_file(data: Path) -> Path:
    return data / DIRECTORY / "fleet.pem"


def _operator_of(authority: x509.Certificate) -> Ed25519PublicKey:
    key = authority.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise CredentialsError("the authority is not that of a fleet")
    return key


def _checked(own: Credentials, certificate: x509.Certificate) -> NodeName:
    """The name in it. Raises CredentialsError if it is not this node's, of this fleet."""
    try:
        name = certificates.name_of(certificate)
        certificate.verify_directly_issued_by(own.authority)
    except (ValueError, TypeError, InvalidSignature) as exc:
        raise CredentialsError("the certificate is not one of this fleet") from exc
    if certificates.key_of(certificate) != own.public_key:
        raise CredentialsError("the certificate is for another key than node.key")
    if own.operator and own.operator.public_key() != own.operator_public_key:
        raise CredentialsError("the operator's key is not that of this fleet")
    return name


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


def pem(one: Ed25519PrivateKey | x509.Certificate) -> bytes:
    """Base64 between two lines. Of a private key this is the secret itself."""
    if isinstance(one, x509.Certificate):
        return one.public_bytes(serialization.Encoding.PEM)
    return one.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _read_key(path: Path) -> Ed25519PrivateKey:
    try:
        return private_key(path.read_bytes())
    except (OSError, ValueError, TypeError) as exc:
        raise CredentialsError(f"{path}: cannot be read as a private key: {exc}") from exc


def _operator_key(content: bytes) -> Ed25519PrivateKey | None:
    """The private key in a PEM file, if there is one. Raises ValueError."""
    _, begin, rest = content.partition(b"-----BEGIN PRIVATE KEY-----")
    return private_key(begin + rest) if begin else None


def private_key(content: bytes) -> Ed25519PrivateKey:
    """Raises ValueError."""
    key = serialization.load_pem_private_key(content, None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 key")
    return key
