"""fail2ban reads the log of a node, and what it bans is cut off."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.deploy.conftest import needs
from tests.deploy.street import (
    ATTACKER,
    ATTACKER6,
    NEIGHBOUR,
    NEIGHBOUR6,
    NODE,
    NODE6,
    ROOT,
    SAME_64,
    Namespace,
    authorization,
    eventually,
    serving,
)

PORT = 8080
SHIPPED = ROOT / "deploy/fail2ban"
STAMP = "2026-11-26T06:00:00.123Z"
FAIL = "WARNING auth event=auth_fail kind=api_key"

READ = {
    "an IPv4 address": f"{STAMP} {FAIL} src=203.0.113.7 key_id=- reason=unknown",
    "an IPv6 address": f"{STAMP} {FAIL} src=2001:db8:1:2::3 key_id=- reason=malformed",
    "the journal": f"host promptedge[12]: {STAMP} {FAIL} src=203.0.113.7 key_id=- reason=unknown",
}
JOIN = "WARNING sync event=join_refused"
READ |= {
    "a wrong token": f"{STAMP} {JOIN} from=203.0.113.7 why=The token is not known here",
    "of a node that listens on all addresses": f"{STAMP} {JOIN} from=::ffff:203.0.113.7 why=No",
}
NOT_READ = {
    "a name that looks like one": f"{STAMP} WARNING sync event=joined node=x from=203.0.113.7",
    "a reason that looks like one": f"{STAMP} INFO sync event=not_linked why={JOIN} from=1.2.3.4 x",
    "no key at all": f"{STAMP} INFO auth event=auth_fail kind=api_key src=203.0.113.7 key_id=-"
    " reason=missing",
    "another event": f"{STAMP} WARNING auth event=lockout kind=api_key src=203.0.113.7 seconds=300",
    "case 24, in a path": f"{STAMP} INFO http event=refused rid=1-ab status=404 code=not_found"
    f' path="/{STAMP} {FAIL} src=198.51.100.7 key_id=- reason=unknown"',
    "case 24, in a user agent": f"{STAMP} INFO http event=bad_request src=203.0.113.7"
    f' agent=" {FAIL} src=198.51.100.7 key_id=- reason=unknown',
    "something behind it": f"{STAMP} {FAIL} src=198.51.100.7 key_id=- reason=unknown x",
    "something before it": f"x {STAMP} {FAIL} src=198.51.100.7 key_id=- reason=unknown",
    "a name": f"{STAMP} {FAIL} src=edge.example key_id=- reason=unknown",
}


@pytest.mark.parametrize("name", [*READ, *NOT_READ])
def test_case_24_what_the_filter_reads(name: str, tmp_path: Path) -> None:
    needs("fail2ban-regex")
    log = tmp_path / "log"
    log.write_text({**READ, **NOT_READ}[name] + "\n")
    done = subprocess.run(
        ["fail2ban-regex", str(log), str(SHIPPED / "filter.d/promptedge.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    found = 1 if name in READ else 0
    assert f"Lines: 1 lines, 0 ignored, {found} matched" in done.stdout, done.stdout + done.stderr


@contextmanager
def fail2ban(place: Namespace, directory: Path, log: Path) -> Iterator[Callable[..., str]]:
    """A server of its own, with what is shipped; yields its client."""
    conf = directory / "fail2ban"
    shutil.copytree("/etc/fail2ban", conf, ignore=shutil.ignore_patterns("jail.d"))
    for part in ("filter.d", "action.d", "jail.d"):
        shutil.copytree(SHIPPED / part, conf / part, dirs_exist_ok=True)
    # All that differs from what is shipped: a file in place of the journal.
    (conf / "jail.d/promptedge.local").write_text(
        f"[promptedge]\nbackend = polling\nlogpath = {log}\n"
    )
    (conf / "fail2ban.local").write_text(
        f"[Definition]\nlogtarget = {directory}/fail2ban.log\ndbfile = None\n"
    )
    where = ["-c", str(conf), "-s", f"{directory}/sock", "-p", f"{directory}/pid"]
    server = place.start("fail2ban-server", *where, "-f", "start", stdout=subprocess.DEVNULL)

    def client(*words: str) -> str:
        return place.run("fail2ban-client", *where, *words)

    try:
        eventually(lambda: "promptedge" in client("status"))
        yield client
        client("stop")
    finally:
        server.terminate()
        server.wait()


@contextmanager
def guarded(place: Namespace, directory: Path) -> Iterator[Path]:
    """A node with an API key, on every address of `place`; yields its log."""
    (directory / "key").write_text("the-key")
    config = f"""
        [node]
        listen = ""
        plain = ":{PORT}"
        [cache]
        mode = "exact"
        [[keys]]
        tenant = "acme"
        key_file = "{directory}/key"
        [[upstreams]]
        base_url = "http://127.0.0.1:9/v1"
        models = ["m"]
    """
    with serving(place, directory, config) as log:
        yield log


def cut_off(world: Namespace, source: str, to: str) -> bool:
    try:
        world.ask(source, (to, PORT), timeout=1.0)
    except TimeoutError:
        return True
    return False


@pytest.mark.parametrize(
    ("to", "attacker", "accomplice", "neighbour"),
    [(NODE, ATTACKER, ATTACKER, NEIGHBOUR), (NODE6, ATTACKER6, SAME_64, NEIGHBOUR6)],
    ids=["IPv4", "IPv6"],
)
def test_a_guesser_is_cut_off_and_nobody_else(
    walled: tuple[Namespace, Namespace],
    tmp_path: Path,
    to: str,
    attacker: str,
    accomplice: str,
    neighbour: str,
) -> None:
    needs("fail2ban-server", "fail2ban-client")
    node, world = walled
    with guarded(node, tmp_path) as log, fail2ban(node, tmp_path, log) as client:
        open_before = HTTPConnection(to, PORT)
        open_before.sock = world.connect(attacker, (to, PORT), timeout=1.0)
        assert [world.ask(attacker, (to, PORT), f"guess-{n}") for n in range(10)] == [401] * 10
        eventually(lambda: cut_off(world, attacker, to))
        assert cut_off(world, accomplice, to)
        open_before.request("GET", "/v1/models", headers=authorization("the-key"))
        with pytest.raises(TimeoutError):
            open_before.getresponse()
        open_before.close()
        assert world.ask(neighbour, (to, PORT), "the-key") == 200
        assert attacker in client("status", "promptedge")

        client("unban", attacker)
        eventually(lambda: not cut_off(world, attacker, to))
