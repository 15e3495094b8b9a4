"""X.509 as a fleet uses it: one authority, the operator's key, and a certificate for each node.

A node's certificate names it twice. The URI `promptedge:NAME` is for us. The DNS name is made of
the public key, so that TLS itself proves that the node that was dialled is the one that answers,
whatever its address is, and whatever characters are in its name.

All keys are Ed25519 (RFC 8410). Nobody is shut out by a certificate that runs out or is listed
somewhere: the roster says at once who belongs to the fleet and who does no longer.
"""

import datetime as dt
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from index.entry import NodeName

AUTHORITY_DAYS = 365 * 30
"""As long as any fleet: a new authority is a new fleet."""
NODE_DAYS = 365
"""A node may be switched off for months and come back. It asks for the next one in good time."""
RENEW_DAYS = 120
BACKDATED = dt.timedelta(hours=1)
"""So that a clock that is somewhat slow does not see a certificate of the future."""

HASH_BYTES = 16
_URI = "promptedge:"


def node_name(name: str, public_key: bytes) -> NodeName:
    """What a node is called in its fleet: its own name and the beginning of its key's hash."""
    return NodeName(f"{name}.{hashlib.sha256(public_key).hexdigest()[:8]}")


def fleet_id(operator: Ed25519PublicKey) -> bytes:
    """What tells one fleet from another: 16 bytes."""
    return hashlib.sha256(b"promptedge fleet\0" + operator.public_bytes_raw()).digest()[:16]


def key_hash(public_key: bytes) -> bytes:
    """16 bytes that no other key has."""
    return hashlib.sha256(public_key).digest()[:HASH_BYTES]


def server_name(key_hash: bytes) -> str:
    """The DNS name that the certificate of the node with that key is valid for."""
    return f"{key_hash.hex()}.node.promptedge"


def authority(operator: Ed25519PrivateKey, now: dt.datetime) -> x509.Certificate:
    """The certificate of a fleet's authority."""
    name = _subject("promptedge fleet")
    usage = _usage(key_cert_sign=True, crl_sign=True)
    return (
        _builder(name, name, operator.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(operator, None)
    )


def request(key: Ed25519PrivateKey) -> x509.CertificateSigningRequest:
    """Proof that whoever asks has the key. What it is called is for the authority to say."""
    return x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)


def key_of(certified: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """The public key, 32 bytes. Raises ValueError unless it is Ed25519."""
    key = certified.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 key")
    return key.public_bytes_raw()


def issue(
    operator: Ed25519PrivateKey,
    authority: x509.Certificate,
    public_key: bytes,
    name: NodeName,
    now: dt.datetime,
) -> x509.Certificate:
    """A node's certificate, good for both ends of a connection."""
    key = Ed25519PublicKey.from_public_bytes(public_key)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    own = server_name(key_hash(public_key))
    names = [x509.DNSName(own), x509.UniformResourceIdentifier(_URI + name)]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(operator.public_key())
    return (
        _builder(_subject(own), authority.subject, key, now, NODE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issuer, critical=False)
        .sign(operator, None)
    )


def read(pem: bytes) -> x509.Certificate:
    """Raises ValueError."""
    return x509.load_pem_x509_certificate(pem)


def name_of(certificate: x509.Certificate) -> NodeName:
    """The node it was issued to. Raises ValueError if it names none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as exc:
        raise ValueError("a certificate without names") from exc
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith(_URI):
            return NodeName(uri.removeprefix(_URI))
    raise ValueError("a certificate of no node")


def due(certificate: x509.Certificate, now: dt.datetime) -> bool:
    """Is it time to ask for the next one?"""
    return certificate.not_valid_after_utc - now < dt.timedelta(days=RENEW_DAYS)


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Ed25519PublicKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
