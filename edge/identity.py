"""What makes a node itself: the fleet's secret and a certificate, made once and kept."""

import datetime as dt
import ipaddress
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sync.private_files import write_private

SECRET = "secret"
SECRET_BYTES = 32
CERTIFICATE_DAYS = 397
"""Chromium refuses a longer life."""


class IdentityError(Exception):
    """A secret or certificate that cannot be used; the message says which file and why."""


def fleet_secret(file: Path | None, data: Path) -> bytes:
    """The secret that cache keys are made with; made at the first start when no file is given.

    Raises:
        IdentityError: the file cannot be read or is not 32 bytes in hexadecimal.
    """
    path = file or data / SECRET
    if file is None and not path.exists():
        keep_secret(secrets.token_bytes(SECRET_BYTES), data)
    try:
        secret = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as exc:
        raise IdentityError(f"{path}: cannot be read as hexadecimal: {exc}") from exc
    if len(secret) != SECRET_BYTES:
        raise IdentityError(f"{path}: must be {SECRET_BYTES} bytes in hexadecimal")
    return secret


def has_secret(data: Path) -> bool:
    return (data / SECRET).exists()


def keep_secret(secret: bytes, data: Path) -> None:
    """From now on keys are made with this one: what was cached under another is not found again."""
    write_private(data / SECRET, secret.hex().encode() + b"\n")


def self_signed(data: Path, now: dt.datetime) -> tuple[Path, Path]:
    """Certificate and key for `localhost` and loopback addresses, renewed in good time."""
    certificate, key = data / "self-signed.pem", data / "self-signed.key"
    if not (certificate.exists() and key.exists()) or _expires_soon(certificate, now):
        _make(certificate, key, now)
    return certificate, key


def _expires_soon(certificate: Path, now: dt.datetime) -> bool:
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError:
        return True
    return loaded.not_valid_after_utc - now < dt.timedelta(days=30)


def _make(certificate: Path, key: Path, now: dt.datetime) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "promptedge self-signed")])
    names = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_private(key, pem)
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
