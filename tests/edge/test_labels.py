"""What answers may be purged by: routes, upstreams, and how far answers may go."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import ConfigError
from edge.labels import FIELD_CHARS_MAX, UPSTREAM_LABELS_MAX, labels_of
from edge.policy import CacheSettings, ReachName, RouteSettings, reach_of
from index.entry import LABEL_CHARS_MAX, Entry, Purge, Reach, Timestamp
from tests.fakes.doors import chat
from tests.fakes.indoors import Indoors, indoors


def groups(*lines: str) -> tuple[str, ...]:
    return labels_of(lines, ())


# What upstreams say.


@pytest.mark.parametrize(
    ("field", "labels"),
    [
        ('"news", "sport"', ("news", "sport")),
        ('  "b" ,\t"a","b"', ("a", "b")),
        ('"news";until=3;x;y="a,b";z=?1, "sport";*k=:YQ==:', ("news", "sport")),
        (r'"a \"b\" \\ c"', (r'a "b" \ c',)),
        ("news, sport", ()),
        ('"news", sport', ()),
        ('"news",', ()),
        ('"news" "sport"', ()),
        ('"news', ()),
        ('("a" "b")', ()),
        ("", ()),
        ('""', ()),
        (f'"{"x" * LABEL_CHARS_MAX}"', ("x" * LABEL_CHARS_MAX,)),
        (f'"{"x" * (LABEL_CHARS_MAX + 1)}", "y"', ("y",)),
        ('"naïve"', ()),
    ],
)
def test_cache_groups_are_a_list_of_strings(field: str, labels: tuple[str, ...]) -> None:
    assert groups(field) == labels


def test_lines_are_one_list_and_surrogate_keys_come_besides() -> None:
    assert labels_of(['"a"', '"b"'], ["c  d", "a"]) == ("a", "b", "c", "d")
    assert labels_of(["broken"], ["c\x00 d"]) == ("d",)


def test_there_are_bounds() -> None:
    assert len(groups(", ".join(f'"{n}"' for n in range(100)))) == UPSTREAM_LABELS_MAX
    assert groups(f'"a"{" " * FIELD_CHARS_MAX}') == ()


STRINGS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)


@given(st.lists(STRINGS, max_size=8))
def test_what_an_upstream_writes_by_the_rules_is_read(strings: list[str]) -> None:
    members: list[Any] = list(strings)
    assert groups(http_sf.ser(members) if members else "") == tuple(sorted(set(strings)))


@given(st.text(st.sampled_from('ab",;=\\ ?1:()\t'), max_size=24))
def test_what_is_not_a_list_of_strings_is_nothing(field: str) -> None:
    try:
        members: Any = http_sf.parse(field.encode(), tltype="list")
        strings = [value for value, _ in members]
    except ValueError:
        strings = []
    wanted = strings if all(type(one) is str for one in strings) else []
    assert groups(field) == tuple(sorted({one for one in wanted if one})), strings


# What entries carry.


async def kept(house: Indoors, model: str = "test-model", **fields: str) -> list[Entry]:
    await house.ask(chat("x", model=model), **fields)
    house.answers.flush()
    return [one for one, _ in house.answers.everything(Timestamp(house.clock.now))]


async def test_entries_say_who_fetched_them_when_and_by_which_route(tmp_path: Path) -> None:
    routes = (RouteSettings("gpt*", labels=("paid", "news")),)
    async with indoors(tmp_path, routes=routes) as house:
        house.upstreams.labels = ("sport", "news")
        (one,) = await kept(house, "gpt-1")
        assert one.labels == ("news", "paid", "route:gpt*", "sport")
        assert (one.stored_by, one.seen, one.reach) == ("edge", (), ("*",))
        assert one.version
        await house.purge(Purge(label="route:gpt*"))
        (again,) = await kept(house, "gpt-1")
        assert again.version > one.version
        assert again.seen == house.answers.seen != ()
        (_, other) = await kept(house)
        assert other.labels == ("news", "sport")


async def test_a_purge_by_label_is_of_what_has_it(tmp_path: Path) -> None:
    async with indoors(tmp_path) as house:
        house.upstreams.labels = ("news",)
        await house.ask("x")
        house.upstreams.labels = ()
        await house.ask("y")
        assert await house.purge(Purge(label="news")) == 1
        assert (await house.ask("y")).cache.get("hit") is True
        assert (await house.ask("x")).cache.get("hit") is None


# How far they may go.


@pytest.mark.parametrize(
    ("name", "region", "residency", "reach"),
    [
        ("node", "eu", None, ()),
        ("node", "eu", ("eu",), ()),
        ("region", "eu", None, ("eu",)),
        ("region", "eu", ("us", "eu"), ("eu",)),
        ("region", "", None, ()),
        ("fleet", "eu", None, ("*",)),
        ("fleet", "eu", ("us", "eu"), ("eu", "us")),
        ("fleet", "ap", ("eu",), None),
        ("node", "", ("eu",), None),
        ("fleet", "eu", (), None),
    ],
)
def test_reach_is_what_route_region_and_residency_leave(
    name: ReachName, region: str, residency: tuple[str, ...] | None, reach: Reach | None
) -> None:
    assert reach_of(name, region, residency) == reach


KEYS = {"sk-a": "a", "sk-b": "b"}


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Indoors]:
    routes = (RouteSettings("public*", reach="fleet"),)
    residency = {"sk-b": ("us",)}
    async with indoors(
        tmp_path, routes=routes, keys=KEYS, residency=residency, region="eu"
    ) as house:
        yield house


async def test_with_keys_answers_stay_in_their_region(keyed: Indoors) -> None:
    (one,) = await kept(keyed, authorization="Bearer sk-a")
    assert one.reach == ("eu",)
    reaches = {one.reach for one in await kept(keyed, "public-1", authorization="Bearer sk-a")}
    assert reaches == {("eu",), ("*",)}


async def test_outside_of_its_residency_nothing_is_kept(keyed: Indoors) -> None:
    for _ in range(2):
        answer = await keyed.ask("x", authorization="Bearer sk-b")
        assert answer.status == 200
        assert "stored" not in answer.headers["cache-status"]
    assert not await kept(keyed, authorization="Bearer sk-b")


async def test_the_setting_counts_over_the_default(tmp_path: Path) -> None:
    async with indoors(tmp_path, CacheSettings(mode="exact", reach="node")) as house:
        (one,) = await kept(house)
        assert one.reach == ()


def test_labels_of_routes_are_checked(tmp_path: Path) -> None:
    from edge import config
    from edge.preflight import check_values

    for spoilt in ({"labels": [""]}, {"labels": ["x" * 129]}, {"labels": ["x"] * 17}):
        path = tmp_path / "node.toml"
        path.write_text(f'[[routes]]\nmodel = "m"\nlabels = {json.dumps(spoilt["labels"])}\n')
        with pytest.raises(ConfigError, match="routes"):
            check_values(config.load(path, {}, {}))
