"""Joining: with a token and only with it, once, and every refusal says what to do."""

import asyncio
import base64
import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization

from index.entry import Timestamp
from sync import certificates, tokens
from sync.application import Refused
from sync.credentials import Credentials, client_tls, node_key
from sync.joining import Joined, JoinError, join
from sync.peer_client import PeerClient, Unanswered
from sync.roster import Roster
from tests.fakes.members import NOW, SECRET, Member, listening, member


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Member]:
    async with listening(member(tmp_path / "host", "fra-1")) as one:
        yield one


async def join_with(
    text: str, data: Path, name: str = "ams-1", region: str = "", address: str = "", **token_: Any
) -> Joined:
    """`token_`: what is different in the token."""
    token = replace(tokens.read(text, NOW), **token_)
    return await asyncio.to_thread(join, token, data, node_key(data), name, region, address, NOW)


async def test_a_newcomer_gets_all_that_makes_it_a_member(host: Member, tmp_path: Path) -> None:
    joined = await join_with(host.invite(), tmp_path / "new", address="ams.example:8444")
    own = joined.credentials
    assert own.name.startswith("ams-1.")
    assert own.fleet == host.credentials.fleet
    assert joined.secret == SECRET
    assert own.operator is not None
    enrolled = host.roster.member(own.name)
    assert enrolled is not None
    assert (enrolled.public_key, enrolled.region) == (own.public_key, "eu")
    assert (enrolled.address, enrolled.sponsor) == ("ams.example:8444", host.name)
    roster = Roster(own.operator_public_key)
    for line in joined.roster:
        roster.merge(line)
    assert [one.name for one in roster] == sorted([host.name, own.name])
    assert not (tmp_path / "new" / "fleet" / "fleet.pem").exists()
    own.save()
    assert Credentials.load(tmp_path / "new", "x", _date(NOW)).name == own.name


async def test_what_a_token_does_not_give(host: Member, tmp_path: Path) -> None:
    text = host.invite(may_publish=False, may_invite=False, scopes=("shared",))
    joined = await join_with(text, tmp_path / "new", region="us")
    assert joined.credentials.operator is None
    enrolled = host.roster.member(joined.credentials.name)
    assert enrolled is not None
    assert (enrolled.may_publish, enrolled.may_invite) == (False, False)
    assert (enrolled.scopes, enrolled.region) == (("shared",), "us")
    newcomer = member(tmp_path / "new", "x", joined.credentials)
    newcomer.roster.merge(joined.roster[-1])
    newcomer.roster.merge(joined.roster[0])
    with pytest.raises(Refused, match="may not invite others: ask fra-1"):
        newcomer.invite()


async def test_a_token_is_good_for_one_node(host: Member, tmp_path: Path) -> None:
    text = host.invite()
    await join_with(text, tmp_path / "one")
    with pytest.raises(JoinError, match="used, by another node: make a new one"):
        await join_with(text, tmp_path / "two", name="other")
    assert len(host.roster) == 2


async def test_two_newcomers_at_once_with_one_token(host: Member, tmp_path: Path) -> None:
    text = host.invite()
    outcomes = await asyncio.gather(
        *(join_with(text, tmp_path / name, name=name) for name in ("a", "b", "c")),
        return_exceptions=True,
    )
    assert sum(isinstance(one, Joined) for one in outcomes) == 1
    assert len(host.roster) == 2


async def test_a_newcomer_whose_answer_was_lost_asks_again(host: Member, tmp_path: Path) -> None:
    text = host.invite()
    first = await join_with(text, tmp_path / "new")
    again = await join_with(text, tmp_path / "new")
    assert again.credentials.name == first.credentials.name
    assert len(host.roster) == 2


async def test_a_use_is_remembered_by_a_host_that_was_killed(tmp_path: Path) -> None:
    first = member(tmp_path / "host", "fra-1")
    async with listening(first):
        text = first.invite()
        await join_with(text, tmp_path / "one")
    async with listening(member(tmp_path / "host", "fra-1")) as again:
        with pytest.raises(JoinError, match="used, by another"):
            await join_at(again.address, text, tmp_path / "two")


async def test_a_token_that_ran_out(host: Member, tmp_path: Path) -> None:
    text = host.invite(valid_s=60)
    with pytest.raises(tokens.TokenError, match="ran out"):
        tokens.read(text, Timestamp(NOW + 61))
    host.wall = Timestamp(NOW + 61)
    with pytest.raises(JoinError, match="run out: make a new one with promptedge invite"):
        await join_with(text, tmp_path / "new")


async def test_a_secret_that_was_guessed(host: Member, tmp_path: Path) -> None:
    text = host.invite()
    for _ in range(10):
        with pytest.raises(JoinError, match="not known here"):
            await join_with(text, tmp_path / "new", secret=b"guess" + bytes(11))
    with pytest.raises(JoinError, match="Too many attempts: try again in"):
        await join_with(text, tmp_path / "new")
    assert len(host.roster) == 1


async def test_a_host_of_another_fleet_is_told_nothing(host: Member, tmp_path: Path) -> None:
    """TLS ends before the secret is sent."""
    async with listening(member(tmp_path / "other", "fra-1")) as other:
        with pytest.raises(JoinError, match="is not the node that made this token"):
            await join_at(other.address, host.invite(), tmp_path / "new")


async def test_another_member_of_the_fleet_cannot_answer_for_the_host(
    host: Member, tmp_path: Path
) -> None:
    joined = await join_with(host.invite(), tmp_path / "new")
    joined.credentials.save()
    async with listening(member(tmp_path / "new", "x", joined.credentials)) as other:
        with pytest.raises(JoinError, match="is not the node that made this token"):
            await join_at(other.address, host.invite(), tmp_path / "third")


async def test_a_token_whose_authority_was_exchanged(host: Member, tmp_path: Path) -> None:
    other = tokens.read(member(tmp_path / "other", "fra-1").invite(), NOW)
    with pytest.raises(JoinError, match="is not the node that made this token"):
        await join_with(host.invite(), tmp_path / "new", authority=other.authority)
    with pytest.raises(JoinError, match="make no sense"):
        await join_with(host.invite(), tmp_path / "new", authority=b"nonsense")


async def test_nobody_answers(host: Member, tmp_path: Path) -> None:
    with pytest.raises(JoinError, match=r"127.0.0.1:1 cannot be reached \(Connection refused\)"):
        await join_at("127.0.0.1:1", host.invite(), tmp_path / "new")


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "name": ({"name": "ams-9"}, {}, "for a node called ams-9: join --name ams-9"),
    "region": ({"region": "us"}, {"region": "eu"}, "is for region us: join --region us"),
    "taken": ({}, {"name": "fra-1"}, "That name is taken, by fra-1.*: join --name ANOTHER"),
    "no name": ({}, {"name": "a b"}, "'a b' is no name of a node: letters"),
    "no region": ({}, {"region": "*"}, r"'\*' is no region: letters"),
    "no address": ({}, {"address": "ams"}, "'ams' is not HOST:PORT"),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_says_what_to_do_and_leaves_the_token_good(
    host: Member, tmp_path: Path, case: str
) -> None:
    terms, wanted, said = REFUSALS[case]
    text = host.invite(**terms)
    with pytest.raises(JoinError, match=said):
        await join_with(text, tmp_path / "new", **wanted)
    assert len(host.roster) == 1
    await join_with(text, tmp_path / "new", name=terms.get("name", "ams-1"))
    assert len(host.roster) == 2


@pytest.mark.parametrize(("off_s", "way"), [(90, "behind"), (-90, "ahead")])
async def test_clocks_that_disagree(host: Member, tmp_path: Path, off_s: float, way: str) -> None:
    """What such a node said would be dropped by everybody: said now, and not found out later."""
    text = host.invite()
    host.wall = Timestamp(NOW + off_s)
    with pytest.raises(JoinError, match=rf"is \d\d s {way}: set both clocks"):
        await join_with(text, tmp_path / "new")


async def test_a_revoked_node_does_not_join_again(host: Member, tmp_path: Path) -> None:
    joined = await join_with(host.invite(), tmp_path / "new")
    assert host.registrar.revoke("ams-1").name == joined.credentials.name
    with pytest.raises(JoinError, match="was revoked: it can join with a new data directory"):
        await join_with(host.invite(), tmp_path / "new")
    await join_with(host.invite(), tmp_path / "newer")  # the name is free again


async def test_a_node_keeps_its_name(host: Member, tmp_path: Path) -> None:
    await join_with(host.invite(), tmp_path / "new")
    with pytest.raises(JoinError, match=r"This node is ams-1\..*: join --name ams-1"):
        await join_with(host.invite(), tmp_path / "new", name="ams-2")


async def test_who_can_be_revoked(host: Member, tmp_path: Path) -> None:
    for at, name in enumerate(("ams-1", "ams-2")):
        await join_with(host.invite(), tmp_path / str(at), name=name)
    with pytest.raises(Refused, match="There is no node ams: see promptedge status"):
        host.registrar.revoke("ams")
    with pytest.raises(Refused, match="cannot revoke itself"):
        host.registrar.revoke("fra-1")
    whole = next(one.name for one in host.roster if one.name.startswith("ams-2"))
    host.registrar.revoke(whole)
    assert host.roster.member(whole) is None


async def test_the_settings_of_a_node_are_said_in_the_roster(tmp_path: Path) -> None:
    one = member(tmp_path, "edge")
    name, lines = one.name, one.roster.lines()
    now = _date(NOW)
    one.registrar.settle("edge", "eu", "", now)
    assert one.roster.lines() == lines
    one.registrar.settle("edge", "us", "fra.example:8444", now)
    enrolled = one.roster.member(name)
    assert enrolled is not None
    assert (enrolled.region, enrolled.address) == ("us", "fra.example:8444")
    one.registrar.settle("fra-1", "", "fra.example:8444", now)
    assert one.name.startswith("fra-1.")
    renamed, former = one.roster.member(one.name), one.roster.member(name)
    assert renamed is not None
    assert former is not None
    assert (renamed.address, former.address) == ("fra.example:8444", "")


async def test_the_next_certificate_is_given_to_a_member_alone(
    host: Member, tmp_path: Path
) -> None:
    joined = await join_with(host.invite(may_invite=False), tmp_path / "new")
    own = joined.credentials
    own.save()
    client = PeerClient(own.client_tls())
    try:
        first = own.certificate
        request = _request(own.key)
        own.renew(certificates.read(await client.renew(host.peer(), request)))
        assert own.certificate != first
        with pytest.raises(Unanswered, match="403"):
            await client.renew(host.peer(), _request(node_key(tmp_path / "other")))
        host.registrar.revoke(own.name)
        with pytest.raises(Unanswered, match="was revoked"):
            await client.renew(host.peer(), request)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("authorization", "body", "status"),
    [
        (None, b"{}", 401),
        ("Bearer", b"{}", 401),
        ("Bearer !!!", b"{}", 401),
        ("Basic c2VjcmV0", b"{}", 401),
        ("Bearer c2VjcmV0", b"{}", 401),
        ("good", b"", 400),
        ("good", b"{}", 400),
        ("good", b"[" * 9000, 400),
        ("good", b'{"request": 1, "name": "a", "region": "", "address": "", "now": 1}', 400),
        ("good", b'{"request": "", "name": "a", "region": "", "address": "", "now": NaN}', 400),
        ("good", b"x" * 20_000, 413),
    ],
)
async def test_anything_else_is_refused_in_json(
    host: Member, authorization: str | None, body: bytes, status: int
) -> None:
    token = tokens.read(host.invite(), NOW)
    if authorization == "good":
        authorization = "Bearer " + _spelt(token.secret)
    fields = {} if authorization is None else {"authorization": authorization}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"https://{host.address}/v1/join",
            data=body,
            headers=fields,
            ssl=_trusting(host),
            server_hostname=host.peer().tls_name,
        ) as response,
    ):
        assert response.status == status
        assert json.loads(await response.read())["error"]["message"]
    assert len(host.roster) == 1


def _request(key: Any) -> str:
    pem: bytes = certificates.request(key).public_bytes(serialization.Encoding.PEM)
    return pem.decode()


def _spelt(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).decode().rstrip("=")


def _trusting(host: Member) -> ssl.SSLContext:
    return client_tls(host.credentials.authority_pem)


async def join_at(address: str, text: str, data: Path) -> Joined:
    """Whoever listens there."""
    token = replace(tokens.read(text, NOW), address=address)
    return await asyncio.to_thread(join, token, data, node_key(data), "ams-1", "", "", NOW)


def _date(wall: Timestamp) -> dt.datetime:
    return dt.datetime.fromtimestamp(wall, dt.UTC)
