"""Keys and certificates: made once, kept, renewed, and never mixed between fleets."""

import datetime as dt
import ssl
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sync import certificates
from sync.certificates import node_name
from sync.credentials import Credentials, CredentialsError, node_key

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def test_a_node_is_the_same_after_every_start(tmp_path: Path) -> None:
    first = load(tmp_path, "fra-1")
    again = load(tmp_path, "renamed")
    assert (again.name, again.public_key, again.fleet) == (
        first.name,
        first.public_key,
        first.fleet,
    )
    assert again.operator is not None
    assert first.name == node_name("fra-1", first.public_key)
    for name in ("node.key", "fleet.pem"):
        assert stat.S_IMODE((tmp_path / "fleet" / name).stat().st_mode) == 0o600


def test_two_nodes_of_one_name_are_two_in_two_fleets(tmp_path: Path) -> None:
    one, other = (load(tmp_path / name, "edge") for name in ("a", "b"))
    assert one.name != other.name
    assert one.fleet != other.fleet


def test_a_node_that_nobody_knows_can_be_renamed(tmp_path: Path) -> None:
    own = load(tmp_path, "edge")
    own.rename("fra-1", NOW)
    again = load(tmp_path, "edge")
    assert again.name == own.name == node_name("fra-1", own.public_key)
    assert again.fleet == own.fleet


def test_a_member_has_the_operators_key_only_if_it_was_given(tmp_path: Path) -> None:
    founder, member = fleet_of_two(tmp_path)
    again = load(tmp_path / "member", "ignored")
    assert (again.name, again.fleet) == (member.name, founder.fleet)
    assert again.operator is None
    assert again.operator_public_key == founder.operator_public_key


@pytest.mark.parametrize("what", ["authority", "key", "operator"])
def test_what_does_not_belong_together_is_not_taken(tmp_path: Path, what: str) -> None:
    founder, member = fleet_of_two(tmp_path)
    other = load(tmp_path / "other", "other")
    authority, operator = founder.authority, None
    certificate = founder.issue(member.public_key, member.name, NOW)
    if what == "authority":
        authority = other.authority
    elif what == "key":
        certificate = founder.issue(other.public_key, member.name, NOW)
    else:
        operator = other.operator
    with pytest.raises(CredentialsError):
        Credentials(tmp_path / "x", member.key, authority, certificate, operator)


@pytest.mark.parametrize("name", ["node.key", "fleet.pem"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """And left as it is: keys are not made anew because a disk failed."""
    load(tmp_path, "fra-1")
    path = tmp_path / "fleet" / name
    path.write_bytes(content)
    with pytest.raises(CredentialsError, match=name):
        load(tmp_path, "fra-1")
    assert path.read_bytes() == content


def test_the_key_of_another_node_is_noticed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        load(tmp_path / name, name)
    stolen = (tmp_path / "b" / "fleet" / "node.key").read_bytes()
    (tmp_path / "a" / "fleet" / "node.key").write_bytes(stolen)
    with pytest.raises(CredentialsError, match="for another key"):
        load(tmp_path / "a", "a")


def test_a_certificate_is_renewed_in_good_time(tmp_path: Path) -> None:
    founder, member = fleet_of_two(tmp_path)
    assert not certificates.due(member.certificate, NOW)
    later = NOW + dt.timedelta(days=certificates.NODE_DAYS - certificates.RENEW_DAYS + 1)
    assert certificates.due(member.certificate, later)
    old = member.certificate
    member.renew(founder.issue(member.public_key, member.name, later))
    assert not certificates.due(member.certificate, later)
    assert member.certificate != old
    assert load(tmp_path / "member", "x").certificate == member.certificate
    with pytest.raises(CredentialsError, match="another name"):
        member.renew(founder.issue(member.public_key, founder.name, later))


def test_only_tls_1_3_and_the_fleets_authority(tmp_path: Path) -> None:
    _, member = fleet_of_two(tmp_path)
    for context in (member.server_tls(), member.client_tls()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
        assert [one["subject"] for one in context.get_ca_certs()] == [
            ((("commonName", "promptedge fleet"),),)
        ]
    assert member.client_tls().verify_mode == ssl.CERT_REQUIRED
    assert member.client_tls().check_hostname


def test_names_of_keys_can_be_host_names() -> None:
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    name = certificates.server_name(certificates.key_hash(key))
    assert name.encode("idna").decode() == name


def fleet_of_two(tmp_path: Path) -> tuple[Credentials, Credentials]:
    """A founder, and a member without the operator's key."""
    founder = load(tmp_path / "founder", "fra-1")
    key = node_key(tmp_path / "member")
    public_key = key.public_key().public_bytes_raw()
    certificate = founder.issue(public_key, node_name("ams-1", public_key), NOW)
    path = tmp_path / "member" / "fleet" / "fleet.pem"
    member = Credentials(path, key, founder.authority, certificate, None)
    member.save()
    return founder, member


def load(data: Path, name: str) -> Credentials:
    return Credentials.load(data, name, NOW)
