"""The configuration: every source, and every mistake named with its place."""

from pathlib import Path
from typing import Any

import pytest

from edge.config import Config, ConfigError, load
from edge.node import check_files


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def refused(path: Path | None, environ: dict[str, str] | None = None, **flags: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check_files(load(path, environ or {}, flags), environ or {})
    return str(caught.value)


def test_nothing_has_to_be_set() -> None:
    assert load(None, {}) == Config()
    check_files(Config(), {})


def test_the_file_then_the_environment_then_flags(tmp_path: Path) -> None:
    path = file(tmp_path, '[node]\nname = "a"\ndata = "/a"\nlisten = ":1"\n[cache]\nttl_s = 1')
    environ = {"PROMPTEDGE__NODE__DATA": "/b", "PROMPTEDGE__NODE__LISTEN": ":2", "OTHER": "x"}
    config = load(path, environ, {"node": {"listen": ":3"}})
    assert (config.node.name, str(config.node.data), config.node.listen) == ("a", "/b", ":3")
    assert config.cache.ttl_s == 1


def test_tables_of_tables(tmp_path: Path) -> None:
    text = """
        [[upstreams]]
        base_url = "http://a/v1"
        models = ["m"]
        [[upstreams]]
        base_url = "http://b/v1"
        [[routes]]
        model = "gpt-*"
        mode = "exact"
        [cors]
        allow_origins = ["https://a.example"]
    """
    config = load(file(tmp_path, text), {})
    assert [one.base_url for one in config.upstreams] == ["http://a/v1", "http://b/v1"]
    assert config.routes[0].mode == "exact"
    assert config.cors.allow_origins == ("https://a.example",)


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("[cache]\nttl_s = -1", "cache.ttl_s", "greater than 0, is -1"),
        ('[cache]\nmode = "fuzzy"', "cache.mode", "'off', 'exact' or 'semantic', is 'fuzzy'"),
        ('[http]\nbody_bytes_max = "8M"', "http.body_bytes_max", "is '8M'"),
        ("[[upstreams]]\nname = 'x'", "upstreams[0].base_url", "field required"),
        ("[cache]\nttl = 1", "cache.ttl", "unknown setting; there are answer_bytes_max,"),
        ("[chache]\nttl_s = 1", "chache", "unknown setting; there are cache,"),
        ("[[routes]]\nmodel='a'\nttl=1", "routes[0].ttl", "unknown setting"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, place: str, why: str) -> None:
    path = file(tmp_path, text)
    said = refused(path)
    assert said.startswith(f"{path}: {place}: ")
    assert why in said


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    said = refused(file(tmp_path, "[cache]\nttl_s = 0\nanswer_bytes_max = 0\n[memory]\nidle_s = 0"))
    assert [line.split(": ")[1] for line in said.splitlines()] == [
        "cache.ttl_s",
        "cache.answer_bytes_max",
        "memory.idle_s",
    ]


def test_an_unknown_variable_of_ours_is_a_mistake() -> None:
    said = refused(None, {"PROMPTEDGE__CACHE__TTL": "1"})
    assert said.startswith("environment: cache.ttl: unknown setting")


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "absent.toml")
    assert "not valid TOML" in refused(file(tmp_path, "[cache"))
    assert "not valid TOML" in refused(file(tmp_path, "x = 1 1"))


@pytest.mark.parametrize(
    ("flags", "place"),
    [
        ({"node": {"name": "two words"}}, "node.name"),
        ({"node": {"listen": "8443"}}, "node.listen"),
        ({"node": {"admin": "host:port"}}, "node.admin"),
        ({"node": {"listen": "", "plain": ""}}, "listen and plain are both off"),
        ({"tls": {"certificate": "/a.pem"}}, "certificate and key belong together"),
        ({"tls": {"certificate": "/a.pem", "key": "/b.pem"}}, "/a.pem"),
        ({"fleet": {"secret_file": "/absent"}}, "fleet.secret_file: /absent"),
        ({"upstreams": [{"base_url": "localhost:80"}]}, "upstreams[0].base_url"),
        ({"upstreams": [{"base_url": "http://a"}, {"base_url": "http://a"}]}, "'a' is taken"),
        ({"upstreams": [{"base_url": "http://a", "api_key_env": "ABSENT"}]}, "ABSENT is not set"),
        ({"upstreams": [{"base_url": "http://a", "api_key_file": "/no"}]}, "/no: cannot be read"),
        ({"keys": [{"tenant": "a"}]}, "keys[0]: set one of"),
        ({"keys": [{"tenant": "a", "key_env": "ABSENT"}]}, "keys[0].key_env"),
        ({"keys": [{"tenant": "a", "key_file": "/no"}]}, "keys[0].key_file: /no"),
    ],
)
def test_what_could_not_work_is_said_before_starting(flags: dict[str, Any], place: str) -> None:
    assert place in refused(None, {}, **flags)


def test_one_key_cannot_belong_to_two_tenants() -> None:
    keys = [{"tenant": name, "key_env": "KEY"} for name in ("a", "b")]
    said = refused(None, {"KEY": "secret-canary"}, keys=keys)
    assert "keys[1]: this key belongs to another tenant" in said
    assert "canary" not in said
