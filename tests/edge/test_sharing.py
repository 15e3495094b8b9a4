"""Tenants share what enough of them asked word for word, on routes that allow it; nothing else."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge import sharing
from edge.policy import RouteSettings
from edge.sharing import PROMPTS_MAX, Sharing, SharingSettings
from index.entry import CacheKey, Purge, Scope
from tests.fakes.indoors import Indoors, indoors

TENANTS = "abcde"
KEYS = {f"key-of-{name}": name for name in TENANTS}
RULE = "what is the capital city of france"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    routes = (RouteSettings("test-model", shared=True),)
    async with indoors(tmp_path, keys=KEYS, routes=routes) as one:
        yield one


async def asked(house: Indoors, tenant: str, text: str = RULE, **wishes: Any) -> tuple[str, str]:
    """(cache status, words)"""
    answer = await house.ask(text, authorization=f"Bearer key-of-{tenant}", **wishes)
    return answer.headers["cache-status"], answer.text


async def test_the_fourth_tenant_has_what_three_asked_for(house: Indoors) -> None:
    for tenant in "abc":
        status, _ = await asked(house, tenant)
        assert "fwd=miss" in status
    status, words = await asked(house, "d")
    assert "hit" in status
    assert "detail=shared" in status
    assert words == f"answer 3 to: {RULE}", "the one that was made when the third asked"


async def test_asking_often_is_not_being_many(house: Indoors) -> None:
    for _ in range(5):
        await asked(house, "a")
        await asked(house, "b", cache_control="no-cache")
    assert "fwd=miss" in (await asked(house, "c"))[0]


async def test_only_word_for_word(house: Indoors) -> None:
    for tenant in "abc":
        await asked(house, tenant)
    for other in (RULE + "?", RULE.upper(), "what is the capital city of spain"):
        status, words = await asked(house, "d", other)
        assert "fwd=miss" in status
        assert words.endswith(f"to: {other}")


@pytest.mark.parametrize(
    "text",
    [
        "my account number is 12345678, what is my balance",
        "mail me at jane.doe@example.com about it",
        "what is the status of order #4711",
        "translate the following text: my name is Jane",
    ],
)
async def test_what_may_be_private_is_never_shared(house: Indoors, text: str) -> None:
    for tenant in TENANTS:
        status, _ = await asked(house, tenant, text)
        assert "hit" not in status


async def test_other_routes_share_nothing(tmp_path: Path) -> None:
    async with indoors(tmp_path, keys=KEYS) as house:
        for tenant in TENANTS:
            assert "hit" not in (await asked(house, tenant))[0]


async def test_a_tenants_own_answer_comes_first(house: Indoors) -> None:
    for tenant in "abc":
        await asked(house, tenant)
    status, words = await asked(house, "a")
    assert "shared" not in status
    assert words == f"answer 1 to: {RULE}"


async def test_a_purge_of_everything_empties_the_pool(house: Indoors) -> None:
    for tenant in "abc":
        await asked(house, tenant)
    await house.purge(Purge())
    assert "fwd=miss" in (await asked(house, "d"))[0]


async def test_a_shared_answer_called_wrong_is_gone_for_all(house: Indoors) -> None:
    for tenant in "abc":
        await asked(house, tenant)
    bearer = "Bearer key-of-d"
    got = await house.ask(RULE, authorization=bearer)
    document = {"request_id": got.headers["x-request-id"], "verdict": "wrong"}
    told = await house.post("/v1/feedback", document, authorization=bearer)
    assert told.json["quarantined"] == "answer"
    assert "fwd=miss" in (await asked(house, "e"))[0]


REQUEST = {"messages": [{"role": "user", "content": "who wrote hamlet"}]}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("Shakespeare.", None),
        ("Ask jane.doe@example.com.", "secret"),
        ("See https://evil.example/hamlet.", "address"),
        ("See www.evil.example for more.", "address"),
    ],
)
def test_answers_that_speak_of_what_nobody_asked_stay(answer: str, why: str | None) -> None:
    assert sharing.unfit(REQUEST, answer) == why


def test_addresses_that_the_instructions_speak_of_may_be_answered() -> None:
    told = {"role": "system", "content": "The manual is at www.example.org."}
    request = {"messages": [told, *REQUEST["messages"]]}
    assert sharing.unfit(request, "See www.example.org") is None


def test_users_and_conversations_stay() -> None:
    assert sharing.unfit({**REQUEST, "user": "jane"}, "x") == "user"
    said = {
        "messages": [
            *REQUEST["messages"],
            {"role": "assistant", "content": "x"},
            *REQUEST["messages"],
        ]
    }
    assert sharing.unfit(said, "x") == "conversation"


def test_the_count_is_bounded_and_forgets_the_oldest() -> None:
    counts = Sharing(SharingSettings(tenants_min=2))
    first = CacheKey(b"first")
    counts.asked(first, Scope("tenant:a"))
    for n in range(PROMPTS_MAX):
        counts.asked(CacheKey(n.to_bytes(4)), Scope("tenant:a"))
    assert len(counts) == PROMPTS_MAX
    assert not counts.asked(first, Scope("tenant:b")), "its first tenant is forgotten"
