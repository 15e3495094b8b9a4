"""Certificates are renewed in good time, by whoever may."""

import datetime as dt
from pathlib import Path

from sync import certificates
from sync.peer_client import PeerClient
from sync.renewal import renew
from tests.fakes.members import NOW, fleet, listening

TODAY = dt.datetime.fromtimestamp(NOW, dt.UTC)
IN_GOOD_TIME = TODAY + dt.timedelta(days=certificates.NODE_DAYS - certificates.RENEW_DAYS + 1)


async def test_a_member_asks_those_that_may_until_one_does(tmp_path: Path) -> None:
    a, b, c = fleet(tmp_path, "a", "b", "c")
    own = c.credentials
    first = own.certificate
    client = PeerClient(own.client_tls())
    try:
        assert await renew(own, c.roster, client, TODAY)
        assert own.certificate == first
        async with listening(b):  # has no operator's key
            assert not await renew(own, c.roster, client, IN_GOOD_TIME)
            assert own.certificate == first
            async with listening(a):
                assert await renew(own, c.roster, client, IN_GOOD_TIME)
                assert own.certificate != first
                assert await client.digest(a.peer()) is None  # and it is good for something
    finally:
        await client.close()


async def test_the_founder_asks_nobody(tmp_path: Path) -> None:
    (a,) = fleet(tmp_path, "a")
    client = PeerClient(a.credentials.client_tls())
    try:
        first = a.credentials.certificate
        assert await renew(a.credentials, a.roster, client, IN_GOOD_TIME)
        assert a.credentials.certificate.not_valid_after_utc > first.not_valid_after_utc
    finally:
        await client.close()
