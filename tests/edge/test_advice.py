"""What an operator is told of the fleet before it is noticed in the bill."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.advice import Standing, advice
from edge.config import ConfigError, load
from edge.policy import ReachName
from edge.preflight import reaches, warnings
from tests.edge.test_cli import run
from tests.edge.test_fleet import KEYS, TENANTS, fleet_of_two, until
from tests.fakes.fleet import enrolment, node
from tests.fakes.node import running_node
from tests.fakes.upstream import ScriptedUpstream

CALM = Standing(
    enrolment("a"),
    [enrolment("b"), replace(enrolment("c"), may_invite=False)],
    has_operator_key=True,
    region="eu",
    reaches=frozenset(["fleet"]),
    revoked_by=(),
    skewed={},
    undigested=0,
)
ELSEWHERE = [enrolment("b", region="us"), enrolment("c", region="ap")]
STAYS: frozenset[ReachName] = frozenset(("region", "node"))


def test_a_fleet_that_is_well_says_nothing() -> None:
    assert advice(CALM) == []
    assert advice(replace(CALM, others=())) == []
    assert advice(replace(CALM, reaches=STAYS)) == []
    assert advice(replace(CALM, others=ELSEWHERE)) == []
    assert advice(replace(CALM, others=ELSEWHERE, reaches=frozenset(["node"]))) == []


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"revoked_by": (node("b"),)}, f"This node was revoked, says {node('b')}"),
        ({"region": "us"}, 'sync.region is "us", but this node was enrolled in "eu"'),
        ({"others": ELSEWHERE, "reaches": STAYS}, "shared with NO other node"),
        ({"others": ELSEWHERE, "reaches": STAYS}, 'which is "eu", and all others are in ap, us'),
        ({"others": [replace(enrolment("b"), may_invite=False)]}, "keep a copy of the directory"),
        (
            {"others": [replace(enrolment("b"), may_invite=False)], "has_operator_key": False},
            "No node is left that may invite",
        ),
        ({"skewed": {node("b"): 300.0}}, f"The clock of {node('b')} is 300 s ahead of"),
        ({"skewed": {node("b"): -90.0}}, f"The clock of {node('b')} is 90 s behind"),
        ({"skewed": {node("a"): 300.0}}, "for 300 s more others take nothing that it says"),
        ({"undigested": 1}, "too many lists of scopes"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(over: dict[str, Any], words: str) -> None:
    (said,) = advice(replace(CALM, **over))
    assert words in said


def test_regions_without_a_name_are_one() -> None:
    own, other = enrolment("a", region="default"), enrolment("b", region="default")
    (said,) = advice(replace(CALM, own=own, others=[other], region="", reaches=STAYS))
    assert "count as one region, wherever they are" in said


def test_how_far_answers_may_travel() -> None:
    routes = [{"model": "a", "reach": "node"}, {"model": "b"}]
    config = load(None, {}, {"routes": routes})
    assert reaches(config, keys=False) == {"node", "fleet"}
    assert reaches(config, keys=True) == {"node", "region"}


LISTENS = {"sync": {"listen": "0.0.0.0:8444"}, "keys": TENANTS[1:]}


@pytest.mark.parametrize(
    ("over", "warned"),
    [
        ({}, True),
        ({"sync": {"listen": "0.0.0.0:8444", "region": "eu"}}, False),
        ({"sync": {}}, False),
        ({"cache": {"reach": "fleet"}}, False),
        ({"keys": []}, False),
    ],
)
def test_who_is_to_be_in_a_fleet_and_was_not_told_where_it_is_is_warned(
    over: dict[str, Any], warned: bool
) -> None:
    found = warnings(load(None, KEYS, {**LISTENS, **over}))
    assert any("sync.region" in one for one in found) is warned


async def test_check_warns_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_KEY", "key-of-all")
    file = tmp_path / "node.toml"
    file.write_text(
        '[sync]\nlisten = "0.0.0.0:8444"\n[[keys]]\ntenant = "all"\nkey_env = "ALL_KEY"\n'
    )
    code, _, err = await run("check", "--config", str(file))
    assert code == 0
    assert "warning: sync.region: not set" in err


async def test_a_node_that_would_keep_nothing_as_it_does_not_know_where_it_is_does_not_start(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"keys\[0\]\.residency.* set sync\.region"):
        async with running_node(tmp_path, environ=KEYS, keys=TENANTS):
            pass


async def test_nodes_tell_it_of_themselves(
    upstream: ScriptedUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"environ": KEYS, "keys": TENANTS}
    async with fleet_of_two(tmp_path, upstream.base_url, [], **settings) as two:
        (said,) = two.a.overview.status()["fleet"]["advice"]
        assert "shared with NO other node" in said
        assert "event=advice what=Answers are shared with NO other node" in caplog.text
        await two.a.fleet.revoke("sfo-1")
        await until(
            lambda: "This node was revoked" in two.b.overview.status()["fleet"]["advice"][0]
        )
