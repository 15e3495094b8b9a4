"""Keys and certificates: made once, kept, renewed, and never mixed between fleets."""

import datetime as dt
import ssl
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sync import certificates
from sync.credentials import Credentials, CredentialsError

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def test_a_node_is_the_same_after_every_start(tmp_path: Path) -> None:
    first = Credentials.load(tmp_path, "fra-1")
    again = Credentials.load(tmp_path, "fra-1")
    assert (again.name, again.public_key, again.fleet) == (
        first.name,
        first.public_key,
        first.fleet,
    )
    assert first.name.startswith("fra-1.")
    assert len(first.name) == len("fra-1.") + 8
    assert not first.founded
    mode = stat.S_IMODE((tmp_path / "fleet" / "node.key").stat().st_mode)
    assert mode == 0o600


def test_two_nodes_of_one_name_are_two(tmp_path: Path) -> None:
    one, other = (Credentials.load(tmp_path / name, "edge") for name in ("a", "b"))
    assert one.name != other.name
    assert one.fleet != other.fleet


def test_a_founded_fleet_is_the_one_that_the_node_was_alone_in(tmp_path: Path) -> None:
    """What it signed before counts after."""
    alone = Credentials.load(tmp_path, "fra-1")
    fleet, name = alone.fleet, alone.name
    alone.found(NOW)
    again = Credentials.load(tmp_path, "renamed")
    assert (alone.fleet, again.fleet, again.name) == (fleet, fleet, name)
    assert again.operator is not None
    assert again.operator_public_key == alone.operator_public_key
    operator = alone.operator
    alone.found(NOW)
    assert alone.operator is operator


def test_half_a_founding_is_none(tmp_path: Path) -> None:
    """`ca.pem` is written last: killed before, a node is alone, and can found its fleet again."""
    Credentials.load(tmp_path, "fra-1").found(NOW)
    (tmp_path / "fleet" / "ca.pem").unlink()
    again = Credentials.load(tmp_path, "fra-1")
    assert not again.founded
    again.found(NOW)
    assert Credentials.load(tmp_path, "fra-1").operator is not None


def test_a_member_without_the_operators_key(tmp_path: Path) -> None:
    founder, member = fleet_of_two(tmp_path)
    again = Credentials.load(tmp_path / "member", "ignored")
    assert (again.name, again.fleet) == (member.name, founder.fleet)
    assert again.operator is None
    assert again.operator_public_key == founder.operator_public_key


def test_the_operators_key_goes_when_another_fleet_is_joined(tmp_path: Path) -> None:
    member = Credentials.load(tmp_path / "member", "ams-1")
    member.found(NOW)
    founder = Credentials.load(tmp_path / "founder", "fra-1")
    founder.found(NOW)
    assert founder.authority
    member.adopt(founder.authority, founder.issue(member.public_key, member.name, NOW), None)
    assert not (tmp_path / "member" / "fleet" / "operator.key").exists()
    assert Credentials.load(tmp_path / "member", "ams-1").operator is None


@pytest.mark.parametrize("what", ["authority", "key", "operator"])
def test_what_does_not_belong_together_is_not_taken(tmp_path: Path, what: str) -> None:
    founder, member = fleet_of_two(tmp_path)
    other = Credentials.load(tmp_path / "other", "other")
    other.found(NOW)
    assert founder.authority
    assert other.authority
    authority, operator = founder.authority, None
    certificate = founder.issue(member.public_key, member.name, NOW)
    if what == "authority":
        authority = other.authority
    elif what == "key":
        certificate = founder.issue(other.public_key, member.name, NOW)
    else:
        operator = other.operator
    files = {path.name: path.read_bytes() for path in member.directory.iterdir()}
    with pytest.raises(CredentialsError):
        member.adopt(authority, certificate, operator)
    assert {path.name: path.read_bytes() for path in member.directory.iterdir()} == files


@pytest.mark.parametrize("name", ["node.key", "node.pem", "ca.pem", "operator.key"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    Credentials.load(tmp_path, "fra-1").found(NOW)
    (tmp_path / "fleet" / name).write_bytes(content)
    with pytest.raises(CredentialsError, match=name):
        Credentials.load(tmp_path, "fra-1")


def test_the_key_of_another_node_is_noticed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Credentials.load(tmp_path / name, name).found(NOW)
    stolen = (tmp_path / "b" / "fleet" / "node.key").read_bytes()
    (tmp_path / "a" / "fleet" / "node.key").write_bytes(stolen)
    with pytest.raises(CredentialsError, match="for another key"):
        Credentials.load(tmp_path / "a", "a")


def test_a_certificate_is_renewed_in_good_time(tmp_path: Path) -> None:
    founder, member = fleet_of_two(tmp_path)
    assert member.certificate
    assert not certificates.due(member.certificate, NOW)
    later = NOW + dt.timedelta(days=certificates.NODE_DAYS - certificates.RENEW_DAYS + 1)
    assert certificates.due(member.certificate, later)
    old = member.certificate
    member.renew(founder.issue(member.public_key, member.name, later))
    assert not certificates.due(member.certificate, later)
    assert member.certificate != old
    assert Credentials.load(tmp_path / "member", "x").certificate == member.certificate
    with pytest.raises(CredentialsError, match="not for"):
        member.renew(founder.issue(member.public_key, founder.name, later))


def test_only_tls_1_3_and_the_fleets_authority(tmp_path: Path) -> None:
    _, member = fleet_of_two(tmp_path)
    for context in (member.server_tls(), member.client_tls()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
        assert [one["subject"] for one in context.get_ca_certs()] == [
            ((("commonName", member.fleet.hex()),),)
        ]
    assert member.client_tls().verify_mode == ssl.CERT_REQUIRED
    assert member.client_tls().check_hostname
    with pytest.raises(CredentialsError, match="in no fleet"):
        Credentials.load(tmp_path / "alone", "alone").server_tls()


def test_names_of_keys_can_be_host_names() -> None:
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    name = certificates.server_name(key)
    assert name.encode("idna").decode() == name


def fleet_of_two(tmp_path: Path) -> tuple[Credentials, Credentials]:
    """A founder, and a member without the operator's key."""
    founder = Credentials.load(tmp_path / "founder", "fra-1")
    founder.found(NOW)
    member = Credentials.load(tmp_path / "member", "ams-1")
    assert founder.authority
    member.adopt(founder.authority, founder.issue(member.public_key, member.name, NOW), None)
    return founder, member
