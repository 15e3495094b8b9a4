"""What operators are told of `[redis]`."""

from pathlib import Path

import pytest

from edge.config import ConfigError, load
from edge.preflight import check_files, warnings
from tests.edge.test_cli import run


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": "http://host"}, "must begin with redis://, rediss://, unix://"),
        ({"url": "redis://user:hunter2@host"}, "holds a user or password"),
        ({"url": "redis://host:0"}, "must be redis://HOST[:PORT][/DB]"),
        ({"url": "redis://host:port"}, "is not a URL"),
        ({"url": "redis://host/prompts"}, "must be redis://HOST[:PORT][/DB]"),
        ({"url": "redis://"}, "must be redis://HOST[:PORT][/DB]"),
        ({"url": "rediss://host?ssl_cert_reqs=none"}, "takes no options"),
        ({"url": "unix://host"}, "must be unix:///PATH"),
        ({"url": "redis://host", "ca_file": "ca.pem"}, "is for rediss:// only"),
        ({"url": "redis://host", "username": "edge"}, "needs password_file or password_env"),
        ({"url": "redis://host", "password_env": "NOT_SET"}, "is not set"),
        ({"url": "redis://host", "password_env": "hunter2!"}, "must be the name of a variable"),
        ({"url": "redis://host", "password_file": "nowhere"}, "nowhere cannot be read"),
        (
            {"url": "redis://host", "password_file": "a", "password_env": "B"},
            "set one of password_file and password_env",
        ),
        ({"timeout_s": 0}, "must be greater than 0"),
    ],
)
def test_what_is_wrong_is_said(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match="redis") as raised:
        check_files(load(None, {}, {"redis": settings}), {})
    assert told in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "warns"),
    [
        ("", False),
        ("redis://10.0.0.7:6379", True),
        ("redis://cache.internal", True),
        ("rediss://10.0.0.7:6379/2", False),
        ("redis://localhost", False),
        ("redis://127.0.0.1:6379/0", False),
        ("redis://[::1]:6379", False),
        ("unix:///run/redis/redis.sock", False),
    ],
)
def test_clear_text_over_a_network_is_warned_of(url: str, warns: bool) -> None:
    config = load(None, {}, {"redis": {"url": url}})
    check_files(config, {})
    assert bool(warnings(config)) == warns


async def test_check_says_so_and_is_content(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('[redis]\nurl = "redis://10.0.0.7"\n')
    code, out, told = await run("check", "--config", str(file))
    assert (code, out) == (0, "The configuration is good.\n")
    assert "clear text over a network" in told
    assert "rediss://" in told


def test_who_counts_in_redis_needs_one() -> None:
    config = load(None, {}, {"admission": {"quotas": "strict"}})
    with pytest.raises(ConfigError, match=r"set redis\.url"):
        check_files(config, {})
