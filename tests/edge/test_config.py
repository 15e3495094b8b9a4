"""Settings: defaults that work, and every wrong one named with its place and source."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Config, ConfigError, KeySettings, NodeSettings, TlsSettings, load
from edge.cors import CorsSettings
from edge.node import Node
from edge.policy import CacheSettings, RouteSettings
from edge.preflight import check_files, check_values, upstreams
from edge.routing.settings import UpstreamSettings

BAD_NAMES = ["", "a b", "1", "-a", "é", "a" * 65, 'a"b', "a\nb", "a;b"]


def problems(path: Path | None, environ: dict[str, str] | None = None, **flags: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(path, environ or {}, flags)
    return str(raised.value).splitlines()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.toml"


def test_nothing_has_to_be_set() -> None:
    config = load(None, {})
    assert config == Config()
    check_files(config, {})
    assert (config.node.listen, config.node.plain, config.node.admin) == (
        "127.0.0.1:8443", "127.0.0.1:8080", "127.0.0.1:9090",
    )  # fmt: skip


def test_a_file_with_everything_in_it(file: Path) -> None:
    file.write_text(
        """
        [node]
        name = "fra-1"
        [cache]
        ttl_s = 10
        ignored_parameters = ["user"]
        [[routes]]
        model = "gpt-*"
        mode = "exact"
        [[keys]]
        tenant = "acme"
        key_env = "ACME"
        [[upstreams]]
        base_url = "https://api.example/v1"
        models = ["a", "b"]
        """
    )
    config = load(file, {})
    assert (config.node.name, config.cache.ttl_s) == ("fra-1", 10)
    assert config.cache.ignored_parameters == ("user",)
    assert (config.routes[0].mode, config.keys[0].tenant) == ("exact", "acme")
    assert config.upstreams[0].models == ("a", "b")
    check_files(config, {"ACME": "key"})


def test_environment_wins_over_the_file_and_flags_over_both(file: Path) -> None:
    file.write_text("[node]\nname='file'\nlisten='127.0.0.1:1'\nplain='127.0.0.1:2'\n")
    environ = {"PROMPTEDGE__NODE__NAME": "env", "PROMPTEDGE__NODE__LISTEN": "127.0.0.1:3"}
    config = load(
        file, {**environ, "OTHER": "x", "PROMPTEDGE_UPSTREAM_KEY": "y"}, {"node": {"name": "flag"}}
    )
    assert config.node == NodeSettings(name="flag", listen="127.0.0.1:3", plain="127.0.0.1:2")


@pytest.mark.parametrize(
    ("name", "text", "place", "value"),
    [
        ("CACHE__TTL_S", "600", "cache.ttl_s", 600),
        ("CACHE__MODE", "exact", "cache.mode", "exact"),
        ("CACHE__MODE", '"exact"', "cache.mode", "exact"),
        (
            "CORS__ALLOW_ORIGINS",
            '["https://a.example"]',
            "cors.allow_origins",
            ("https://a.example",),
        ),
        ("NODE__LISTEN", "", "node.listen", ""),
        ("NODE__DATA", "/a b/c", "node.data", Path("/a b/c")),
        ("UPSTREAMS", '[{base_url="http://x"}]', "upstreams", (UpstreamSettings("http://x"),)),
    ],
)
def test_environment_values(name: str, text: str, place: str, value: Any) -> None:
    got: Any = load(None, {f"PROMPTEDGE__{name}": text})
    for part in place.split("."):
        got = getattr(got, part)
    assert got == value


def test_everything_that_is_wrong_is_said_at_once(file: Path) -> None:
    file.write_text(
        """
        cachee = 1
        [cache]
        ttl_s = -1
        modes = "exact"
        mode = "sometimes"
        [http]
        body_bytes_max = "large"
        [[routes]]
        ttl_s = 5
        [[upstreams]]
        base_url = "http://x"
        api_key = "canary-secret"
        connections_max = 0
        """
    )
    environ = {"PROMPTEDGE__HTTP1__IDLE_TIMEOUT_S": "0", "PROMPTEDGE__NOWHERE__X": "1"}
    said = problems(file, environ, log={"level": "LOUD"})
    expected = [
        f"{file}: cachee: unknown setting; there are admission,",
        f"{file}: cache.modes: unknown setting; there are",
        f"{file}: upstreams[0].api_key: unknown setting; there are aliases, api_key_env,",
        "environment: nowhere: unknown setting",
        f"{file}: cache.ttl_s: must be greater than 0, is -1",
        f"{file}: cache.mode: must be 'off', 'exact' or 'semantic', is 'sometimes'",
        f"{file}: http.body_bytes_max: must be a valid integer",
        f"{file}: routes[0].model: ",
        f"{file}: upstreams[0].connections_max: must be greater than or equal to 1, is 0",
        "environment: http1.idle_timeout_s: must be greater than 0, is 0",
        "command line: log.level: must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR', is 'LOUD'",
    ]
    for line in expected:
        assert [one for one in said if one.startswith(line)], (line, said)
    assert len(said) == len(expected)
    assert "canary" not in "\n".join(said)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cache = 5", "cache: must be a table"),
        ("[routes]\nmodel='x'", "routes: must be a valid tuple"),
        ("routes = [5]", "routes[0]: must be a table"),
        ("[[keys]]\nkey_env='X'", "keys[0].tenant: "),
        ("[cache]\nttl_s = inf", "cache.ttl_s: must be a finite number"),
        ("[cache]\nttl_s = nan", "cache.ttl_s: must be a finite number"),
        ("[[routes]]\nmodel='x'\nttl_s = inf", "routes[0].ttl_s: must be a finite number"),
        ("[cache]\nmode = 1", "cache.mode: must be 'off'"),
        ("[node]\nname = ''", "node.name: "),
        ("[node]\nname = 5", "node.name: must be a valid string, is 5"),
        ("[semantic]\nmax_error = 0", "semantic.max_error: must be greater than 0, is 0"),
        ("[semantic]\nmax_error = 0.5", "semantic.max_error: must be less than or equal to 0.2"),
        ("[semantic]\nshadow_max = 2", "semantic.shadow_max: must be less than or equal to 1"),
        ("[cache.classes]\npersonal = 'never'", "cache.classes.personal: must be 'bypass', "),
    ],
)
def test_wrong_values_are_named(file: Path, text: str, line: str) -> None:
    file.write_text(text)
    assert problems(file)[0].startswith(f"{file}: {line}")


@pytest.mark.parametrize("content", [b"[node", b"a = 1\na = 2", b"\xff\xfe", b"x"])
def test_files_that_are_not_toml(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert problems(file)[0].startswith(f"{file}: not valid TOML: ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.toml") == [
        f"{tmp_path}/none.toml: cannot be read: No such file or directory"
    ]
    assert problems(tmp_path)[0].startswith(f"{tmp_path}: cannot be read")


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["CACHE", "CACHE__MODE"], "environment: PROMPTEDGE__CACHE__MODE: cache is set as a whole"),
        (["", "X"], "environment: : unknown setting"),
        (["CACHE____X"], "environment: cache.: unknown setting"),
        (["UPSTREAMS__0__BASE_URL"], "environment: upstreams: must be a valid tuple"),
    ],
)
def test_odd_names_in_the_environment(names: list[str], line: str) -> None:
    said = problems(None, {f"PROMPTEDGE__{name}": "1" for name in names})
    assert [one for one in said if one.startswith(line)], said


NAMES = st.lists(st.sampled_from(["node", "cache", "name", "mode", "ttl_s", "", "upstreams", "0"]))


@given(
    st.dictionaries(NAMES.map("__".join), st.sampled_from(["1", "x", "{}", "[]", "", "[{a=1}]"]))
)
def test_any_environment_is_a_configuration_or_a_config_error(variables: dict[str, str]) -> None:
    environ = {f"PROMPTEDGE__{name.upper()}": text for name, text in variables.items()}
    try:
        assert isinstance(load(None, environ), Config)
    except ConfigError as error:
        said = str(error)
    else:
        said = "good"
    assert said


# What no single value shows


@pytest.mark.parametrize("name", BAD_NAMES[1:])
def test_a_node_name_is_a_token_of_cache_status(name: str) -> None:
    with pytest.raises(ConfigError, match=r"node\.name"):
        check_values(Config(node=NodeSettings(name=name)))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Config(cache=CacheSettings(classes={"weather": "bypass"})), "cache.classes: no such reas"),
        (
            Config(routes=(RouteSettings("*"), RouteSettings("x", classes={"y": "bypass"}))),
            "routes[1].classes: no such reason: 'y'; there are secret, chance, ",
        ),
        (
            Config(cache=CacheSettings(classes={"too-long": "semantic"})),
            "cache.classes: too-long cannot be semantic: the encoder does not see all",
        ),
    ],
)
def test_classes_for_reasons_that_there_are_not(config: Config, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_values(config)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (NodeSettings(listen="", plain=""), "nobody could reach"),
        (NodeSettings(listen="8443"), "node.listen: '8443' is not HOST:PORT"),
        (NodeSettings(plain="127.0.0.1:65536"), "node.plain: "),
        (NodeSettings(admin="x:y"), "node.admin: "),
    ],
)
def test_addresses(node: NodeSettings, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_values(Config(node=node))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://x", "http://", "http:///v1", "http://x:99999", "http://x/?a=b", "http://x y"],
)
def test_base_urls(url: str) -> None:
    with pytest.raises(ConfigError, match=r"upstreams\[0\]\.base_url: must be"):
        upstreams((UpstreamSettings(url),))


def test_a_password_in_a_base_url_is_refused_and_not_shown() -> None:
    one = UpstreamSettings("https://user:canary@x/v1", api_key_env="NOT_SET")
    for check in (lambda: upstreams((one, one)), lambda: check_files(Config(upstreams=(one,)), {})):
        with pytest.raises(ConfigError) as raised:
            check()
        assert "holds a user or password" in str(raised.value)
        assert "canary" not in str(raised.value)


def test_upstreams_are_named_after_their_host_and_names_are_their_own() -> None:
    made = upstreams(
        (UpstreamSettings("http://x:1/v1"), UpstreamSettings("http://x:1/v1", name="b"))
    )
    assert [one.name for one in made] == ["x:1", "b"]
    with pytest.raises(ConfigError, match="is taken"):
        upstreams((UpstreamSettings("http://x/v1"), UpstreamSettings("http://x/v2")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'upstream = "b"\nbegins = 2026-11-01T02:00:00Z\nends = 2026-11-01T03:00:00Z',
            "maintenance[0].upstream: there is no upstream 'b'",
        ),
        (
            'upstream = "a"\nbegins = 2026-11-01T02:00:00Z\nends = 2026-11-01T01:00:00Z',
            "maintenance[0]: ends must be after begins",
        ),
        (
            'upstream = "a"\nbegins = 2026-11-01T02:00:00\nends = 2026-11-01T03:00:00',
            "maintenance[0].begins: must have its offset from UTC, such as 2026-11-01T02:00:00Z",
        ),
    ],
)
def test_maintenance_that_cannot_be(file: Path, text: str, said: str) -> None:
    upstream = '[[upstreams]]\nbase_url = "http://a/v1"\nname = "a"\n'
    file.write_text(f"{upstream}[[maintenance]]\n{text}")
    with pytest.raises(ConfigError) as raised:
        check_values(load(file, {}))
    assert said in str(raised.value)


@pytest.mark.parametrize("origin", ["chat.example", "https://chat.example/", "https://*.example"])
def test_an_origin_that_no_browser_would_send(origin: str) -> None:
    good = ("https://chat.example", "http://localhost:3000", "tauri://localhost", "*")
    check_values(Config(cors=CorsSettings(good)))
    with pytest.raises(ConfigError, match=r"cors\.allow_origins: .* is no origin"):
        check_values(Config(cors=CorsSettings((origin,))))


def test_regions_that_no_upstream_is_in() -> None:
    eu = UpstreamSettings("http://a/v1", region="eu")
    config = Config(upstreams=(eu,), routes=(RouteSettings("*", regions=("us", "ap")),))
    with pytest.raises(ConfigError, match=r"routes\[0\]\.regions: no upstream is in us or ap"):
        check_values(config)
    config = Config(upstreams=(eu,), keys=(KeySettings("t", key_env="K", regions=("us",)),))
    with pytest.raises(ConfigError, match=r"keys\[0\]\.regions: no upstream is in us"):
        check_values(config)
    check_values(Config(upstreams=(eu,), routes=(RouteSettings("*", regions=("us", "eu")),)))


def test_all_that_does_not_go_together_is_told_at_once(file: Path) -> None:
    file.write_text(
        """
        node = { name = "-", listen = "", plain = "", admin = "here" }
        tls = { certificate = "pem" }
        cache = { classes = { weather = "bypass" } }
        admission = { quotas = "strict" }
        fleet = { secret_file = "/none" }
        routes = [{ model = "*", regions = ["eu"] }]
        keys = [
            { tenant = "a" },
            { tenant = "b", key_env = "NOT_SET", plan = "gold" },
        ]
        upstreams = [
            { base_url = "ftp://a" },
            { base_url = "http://b", api_key_env = "NOT_SET" },
            { base_url = "http://b", name = "c", api_key_env = "NOT_SET" },
        ]
        """
    )
    with pytest.raises(ConfigError) as raised:
        check_files(load(file, {}), {})
    assert [one.split(" ", 1)[0].rstrip(":") for one in str(raised.value).splitlines()] == [
        *("node.name", "tls", "node", "node.admin", "keys[1].plan", "cache.classes"),
        *("upstreams[0].base_url", "routes[0].regions", "admission.quotas"),
        *("keys[0]", "keys[1].key_env", "upstreams", "upstreams", "fleet.secret_file"),
    ]


def test_files_that_a_node_would_need(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not a certificate")
    cases = [
        Config(tls=TlsSettings(certificate=wrong)),
        Config(tls=TlsSettings(certificate=wrong, key=wrong)),
        Config(keys=(KeySettings("acme", key_file=tmp_path / "none"),)),
        Config(upstreams=(UpstreamSettings("http://x", api_key_file=str(tmp_path / "none")),)),
        Config(upstreams=(UpstreamSettings("http://x", api_key_env="NOT_SET"),)),
        load(None, {}, {"fleet": {"secret_file": str(wrong)}}),
        load(None, {}, {"fleet": {"secret_file": str(tmp_path / "none")}}),
    ]
    for config in cases:
        with pytest.raises(ConfigError):
            check_files(config, {})


@pytest.mark.parametrize("env", ["sk-canary", "sk canary", "a=b"])
def test_a_key_where_the_name_of_a_variable_belongs_is_not_shown(env: str) -> None:
    for config in (
        Config(keys=(KeySettings("acme", key_env=env),)),
        Config(upstreams=(UpstreamSettings("http://x", api_key_env=env),)),
    ):
        with pytest.raises(ConfigError, match="name of a variable") as raised:
            Node(config, {})
        assert env not in str(raised.value)
