"""Answers by meaning are checked beside serving: what is drawn, learned, refuted, and its cost."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge import checks
from edge.checks import PAUSE_S
from edge.decisions import Decided
from edge.dialects.openai_chat import OpenAiChat
from index.calibration import AGREE, VOTED, WORDS, Calibration
from index.control import ClassReport
from index.decision import DecisionSettings
from index.entry import Question, Scope
from index.labels import Labels, Verdict
from index.prompt import route
from tests.fakes.doors import Answer, chat
from tests.fakes.entries import as_after_kill
from tests.fakes.indoors import SECRET, Exchange, Indoors, Script, answer, down, indoors
from tests.fakes.upstream import completion

ASKED = "How do I center a div in CSS?"
REWORDED = "CSS: how to center a div?"
NEAR = "How do I center a table in CSS?"
ALWAYS = DecisionSettings(shadow_min=1.0, shadow_max=1.0)
JUDGED = replace(ALWAYS, judge_model="judge")
CLASS = "shared|*|semantic"

VAGUE = "Set the margins to auto and give the box a width."
VAGUE_TOO = "Use grid on the parent and place the items in the middle of it."
"""Of these two no comparison without a judge knows whether they say the same."""


def saying(words: Callable[[Exchange], str]) -> Script:
    """An upstream that answers with these words."""

    async def script(exchange: Exchange) -> AsyncIterator[bytes]:
        document = completion(words(exchange), exchange.number)
        await asyncio.sleep(0)
        yield json.dumps(document).encode()

    return script


KIND = "shared|*|semantic"
ONE_ANSWER = saying(lambda _: "It takes 3 steps.")
TWO_ANSWERS = saying(lambda one: f"It takes {3 if one.text == ASKED else 5} steps.")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    """Each hit is checked, none is asked twice unless chance says so."""
    async with indoors(tmp_path, semantic=ALWAYS) as one:
        one.upstreams.form = "json"
        one.upstreams.script = ONE_ANSWER
        await known_twins(one)
        yield one


async def known_twins(house: Indoors) -> None:
    """So many twins that it takes luck to be asked twice, and none disagreed."""
    for _ in range(100):
        house.answers.labels.twins(KIND, differ=False)
    house.chance.drawn = 0.9


async def asked(house: Indoors, prompt: Any, **fields: str) -> Answer:
    got = await house.ask(prompt, **fields)
    house.answers.flush()  # found by meaning once it is written
    return got


async def served(house: Indoors, **fields: str) -> Answer:
    """A hit by meaning, and whatever is checked about it."""
    await asked(house, ASKED)
    hit = await asked(house, REWORDED, **fields)
    assert hit.cache["detail"] == "semantic"
    await house.settled()
    return hit


def report(house: Indoors) -> ClassReport:
    found = house.answers.labels.report_of(CLASS)
    assert found is not None
    return found


def counted(house: Indoors, verdict: str) -> float:
    name = "promptedge_semantic_checks_total"
    return house.metrics.registry.get_sample_value(name, {"verdict": verdict}) or 0.0


def labels(house: Indoors, stratum: str) -> int:
    return report(house).labels.get(stratum, 0)


# Hits.


async def test_a_served_hit_is_asked_again_and_one_that_was_right_stays(house: Indoors) -> None:
    await served(house)
    assert [call.text for call in house.upstreams.calls] == [ASKED, REWORDED]
    assert (report(house).error.labels, report(house).error.served) == (1, 1)
    assert counted(house, "same") == 1
    assert house.answers.labels.refuted == 0
    third = await asked(house, "In CSS, how do I center a div?")
    assert third.cache["detail"] == "semantic"


async def test_a_wrong_hit_is_refuted_and_its_fresh_answer_kept(
    house: Indoors, caplog: pytest.LogCaptureFixture
) -> None:
    house.upstreams.script = TWO_ANSWERS
    wrong = await served(house)
    assert wrong.text == "It takes 3 steps."
    assert counted(house, "different") == 1
    assert "event=wrong_hit" in caplog.text
    again = await asked(house, REWORDED)
    assert (again.cache["hit"], again.text) == (True, "It takes 5 steps.")
    assert "detail" not in again.cache
    spelled = await asked(house, REWORDED.lower())
    assert spelled.text == "It takes 5 steps."
    assert len(house.upstreams.calls) == 2


async def test_what_was_refuted_is_not_served_when_the_fresh_answer_is_gone(
    house: Indoors,
) -> None:
    house.answers.labels.refute(question_of(REWORDED), ASKED)
    await asked(house, ASKED)
    again = await asked(house, REWORDED)
    assert (again.cache["fwd"], again.cache["detail"]) == ("miss", "refuted")


def question_of(text: str) -> Question:
    """What the node makes of it."""
    call = OpenAiChat((), 2.0).parse(json.dumps(chat(text)).encode())
    found = route(call.prompt, Scope("shared"), SECRET).asked
    assert found is not None
    return found


async def test_only_those_drawn_are_checked_and_the_others_counted(tmp_path: Path) -> None:
    seldom = DecisionSettings(shadow_min=0.0, shadow_max=0.4)
    async with indoors(tmp_path, semantic=seldom) as house:
        house.chance.drawn = 0.41
        await served(house)
        assert len(house.upstreams.calls) == 1
        assert (report(house).error.labels, report(house).error.served) == (0, 1)
        await known_twins(house)
        house.chance.drawn = 0.39
        await asked(house, "In CSS, how do I center a div?")
        await house.settled()
        assert len(house.upstreams.calls) == 2
        assert report(house).error.served == 2


async def test_with_a_share_of_nought_nothing_is_checked(tmp_path: Path) -> None:
    async with indoors(tmp_path, semantic=DecisionSettings(shadow_max=0.0)) as house:
        house.chance.drawn = 0.0
        await served(house)
        assert len(house.upstreams.calls) == 1


async def test_exact_hits_are_not_checked(house: Indoors) -> None:
    await asked(house, ASKED)
    assert (await asked(house, ASKED)).cache["hit"] is True
    await house.settled()
    assert len(house.upstreams.calls) == 1


async def test_what_may_not_be_stored_is_neither_looked_up_nor_sent_again(house: Indoors) -> None:
    await asked(house, ASKED)
    fresh = await asked(house, REWORDED, cache_control="no-store")
    assert fresh.cache["fwd"] == "request"
    await house.settled()
    assert len(house.upstreams.calls) == 2
    assert (await asked(house, REWORDED)).cache["detail"] == "semantic"


async def test_a_streamed_hit_is_checked_like_any(house: Indoors) -> None:
    house.upstreams.form = None
    house.upstreams.script = answer
    await asked(house, ASKED)
    hit = await asked(house, chat(REWORDED, stream=True))
    assert hit.cache["detail"] == "semantic"
    await house.settled()
    assert report(house).error.labels == 1


async def test_nobody_waits_for_a_check(house: Indoors) -> None:
    await asked(house, ASKED)
    gate = asyncio.Event()

    async def held(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        async for piece in ONE_ANSWER(exchange):
            yield piece

    house.upstreams.script = held
    for _ in range(3):
        hit = await asyncio.wait_for(asked(house, REWORDED), 10)
        assert hit.cache["detail"] == "semantic"
    await house.upstreams.called(2)
    assert report(house).error.labels == 0
    gate.set()
    await house.settled()
    assert report(house).error.labels == 3


@pytest.mark.parametrize("status", [429, 502])
async def test_an_upstream_that_fails_a_check_is_counted_and_harms_nobody(
    house: Indoors, status: int
) -> None:
    await asked(house, ASKED)
    house.upstreams.refusals["one"] = down(status=status)
    assert (await asked(house, REWORDED)).cache["detail"] == "semantic"
    await house.settled()
    assert counted(house, "unanswered") == 1
    assert report(house).error.labels == 0
    house.upstreams.refusals.clear()
    assert (await asked(house, REWORDED)).cache["detail"] == "semantic"
    await house.settled()
    assert counted(house, "same") == 0  # in trouble it is left alone
    assert report(house).unwatched == 1
    house.clock.now += PAUSE_S + 1
    assert (await asked(house, REWORDED)).cache["detail"] == "semantic"
    await house.settled()
    assert counted(house, "same") == 1


async def test_an_answer_that_is_no_answer_does_not_end_the_checking(
    house: Indoors, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake of ours while checking is logged, and the next check goes on."""
    await asked(house, ASKED)

    async def nonsense(exchange: Exchange) -> AsyncIterator[bytes]:
        yield json.dumps({**completion("x"), "choices": [{"finish_reason": "stop"}]}).encode()

    house.upstreams.script = nonsense
    await asked(house, REWORDED)
    await house.settled()
    house.upstreams.script = ONE_ANSWER
    house.clock.now += PAUSE_S + 1
    await asked(house, REWORDED)
    await house.settled()
    assert counted(house, "same") == 1


# What it costs.


async def test_once_the_tokens_of_a_day_are_spent_nothing_is_checked_until_the_next(
    tmp_path: Path,
) -> None:
    async with indoors(tmp_path, semantic=replace(ALWAYS, shadow_tokens_per_day=12)) as house:
        house.upstreams.form, house.upstreams.script = "json", ONE_ANSWER
        await known_twins(house)
        await served(house)  # a completion says that it took 12
        assert len(house.upstreams.calls) == 2
        await asked(house, "In CSS, how do I center a div?")
        await house.settled()
        assert len(house.upstreams.calls) == 2
        assert report(house).error.served == 1  # not a sample, so not in it
        house.clock.now += checks.DAY_S
        await asked(house, ASKED)  # fresh: it had expired
        await asked(house, REWORDED.lower())
        await house.settled()
        assert report(house).error.labels == 2


async def test_the_queue_is_bounded_and_what_does_not_fit_is_let_go(
    house: Indoors, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asked(house, ASKED)
    gate = asyncio.Event()

    async def held(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        async for piece in ONE_ANSWER(exchange):
            yield piece

    house.upstreams.script = held
    await asked(house, REWORDED)
    await house.upstreams.called(2)  # the first is being worked on, and holds up the rest
    for _ in range(checks.QUEUE_MAX + 3):
        await house.ask(REWORDED)
    assert counted(house, "dropped") == 3
    gate.set()
    await house.settled()
    assert counted(house, "same") == checks.QUEUE_MAX + 1


async def test_an_answer_too_large_to_keep_waiting_is_not_checked(house: Indoors) -> None:
    long = "It takes 3 steps. " * 4_000
    house.upstreams.script = saying(lambda _: long)
    await served(house)
    assert counted(house, "dropped") == 1
    assert len(house.upstreams.calls) == 1


# Misses.


async def test_a_miss_tells_of_each_candidate_whether_it_would_have_been_right(
    house: Indoors,
) -> None:
    await asked(house, ASKED)
    miss = await asked(house, NEAR)
    assert miss.cache["detail"] == "veto:content"
    await house.settled()
    assert labels(house, WORDS) == 1
    assert labels(house, AGREE) == 0
    assert len(house.upstreams.calls) == 2  # it cost nothing


async def test_candidates_with_the_fresh_answer_become_a_group(house: Indoors) -> None:
    for text in (ASKED, NEAR):
        await asked(house, text)
        await house.settled()
    third = decided(house, await asked(house, "How do I center a list in CSS?"))
    assert len(third.judged) == 2
    assert {one.stratum for one in third.judged} == {VOTED}
    assert len({one.candidate.answer for one in third.judged}) == 1


async def test_the_fresh_answer_of_a_check_joins_the_group_that_it_agrees_with(
    house: Indoors,
) -> None:
    await served(house)
    third = decided(house, await asked(house, NEAR))
    assert {one.candidate.text for one in third.judged} == {ASKED, REWORDED}
    (group,) = {one.candidate.answer for one in third.judged}
    assert group != 0


async def test_the_fresh_answer_of_a_check_that_disagrees_is_in_no_group(house: Indoors) -> None:
    house.upstreams.script = TWO_ANSWERS
    await served(house)
    third = decided(house, await asked(house, NEAR))
    assert {one.candidate.text for one in third.judged} == {ASKED, REWORDED}
    assert len({one.candidate.answer for one in third.judged}) == 2


async def test_a_replaced_answer_leaves_its_group(house: Indoors) -> None:
    await asked(house, ASKED)
    await asked(house, NEAR)
    await house.settled()
    await asked(house, ASKED, cache_control="no-cache")
    miss = await asked(house, "How do I center a list in CSS?")
    answers = {one.candidate.text: one.candidate.answer for one in decided(house, miss).judged}
    assert answers[ASKED] == 0
    assert answers[NEAR] != 0


async def test_votes_of_a_group_open_what_mere_words_do_not(tmp_path: Path) -> None:
    async with indoors(tmp_path, semantic=replace(ALWAYS, max_error=0.05)) as house:
        house.upstreams.form, house.upstreams.script = "json", ONE_ANSWER
        for text in (ASKED, NEAR, "How do I center a form in CSS?"):
            assert (await asked(house, text)).cache["fwd"] == "miss"
            await house.settled()
        hit = await asked(house, "How do I center a list in CSS?")
        assert hit.cache["detail"] == "semantic"
        chosen = decided(house, hit).chosen
        assert chosen is not None
        assert chosen.stratum == VOTED


def decided(house: Indoors, got: Answer) -> Decided:
    found = house.decisions.of(got.headers["x-request-id"])
    assert found is not None
    return found


# Twins.


async def test_now_and_then_a_check_is_asked_twice(house: Indoors) -> None:
    house.chance.drawn = 0.1  # less than one in TWINS
    await served(house)
    await house.settled()
    assert [call.text for call in house.upstreams.calls] == [ASKED, REWORDED, REWORDED]
    assert house.answers.labels.noise(KIND).labels == 101
    assert house.answers.labels.noise(KIND).estimate == 0


async def test_an_upstream_that_contradicts_itself_is_noted(house: Indoors) -> None:
    house.chance.drawn = 0.1
    house.upstreams.script = saying(lambda one: f"It takes {one.number} steps.")
    await served(house)
    assert house.answers.labels.noise(KIND).estimate == pytest.approx(1 / 101)


# The judge.


def judging(opinion: str) -> Script:
    def words(one: Exchange) -> str:
        if one.body["model"] == "judge":
            return opinion
        return VAGUE if one.text == ASKED else VAGUE_TOO

    return saying(words)


@pytest.mark.parametrize(
    ("opinion", "verdict"),
    [
        ("YES", "same"),
        ("yes.", "same"),
        ("NO", "different"),
        ("No.", "different"),
        ("I would say that they differ.", "undecided"),
    ],
)
async def test_a_judge_decides_what_nothing_cheaper_can(
    tmp_path: Path, opinion: str, verdict: str
) -> None:
    async with indoors(tmp_path, semantic=JUDGED) as house:
        house.upstreams.form, house.upstreams.script = "json", judging(opinion)
        await known_twins(house)
        await served(house)
        assert counted(house, verdict) == 1
        assert house.answers.labels.refuted == (verdict == "different")
        *_, judge = house.upstreams.calls
        assert judge.body["model"] == "judge"
        assert (VAGUE in judge.text, VAGUE_TOO in judge.text) == (True, True)


async def test_the_judge_is_not_asked_what_is_plain(tmp_path: Path) -> None:
    async with indoors(tmp_path, semantic=JUDGED) as house:
        house.upstreams.form, house.upstreams.script = "json", TWO_ANSWERS
        await known_twins(house)
        await served(house)
        assert [call.body["model"] for call in house.upstreams.calls] == ["test-model"] * 2


async def test_the_judges_opinion_is_remembered_by_nobody(tmp_path: Path) -> None:
    async with indoors(tmp_path, semantic=JUDGED) as house:
        house.upstreams.form, house.upstreams.script = "json", judging("NO")
        await known_twins(house)
        await served(house)
        house.answers.flush()
        assert house.answers.stats.store.entries == 2


async def test_without_a_judge_what_cannot_be_decided_is_no_label(house: Indoors) -> None:
    house.upstreams.script = judging("")
    await served(house)
    assert counted(house, "undecided") == 1
    assert report(house).error.labels == 0
    assert house.answers.labels.refuted == 0
    assert report(house).error.served == 1


# Drift.


async def test_a_run_of_wrong_hits_sets_off_an_alarm(
    house: Indoors, caplog: pytest.LogCaptureFixture
) -> None:
    first = decided(house, await served(house))
    assert first.question is not None
    assert first.chosen is not None
    for _ in range(1_000):  # it did well for long
        verdict = Verdict(first.chosen, right=True, label=True)
        house.answers.labels.missed(CLASS, first.question, [verdict])
    house.upstreams.script = saying(lambda one: f"It takes {one.number} steps.")
    for what in ("reset my router", "boil rice", "paint a fence", "sharpen knives", "whip cream"):
        await asked(house, f"How do I {what}?")
        assert (await asked(house, f"How can I {what}?")).cache["detail"] == "semantic"
        await house.settled()
    assert report(house).alarms == 1
    assert f"event=semantic_alarm class={CLASS}" in caplog.text
    assert "router" not in caplog.text


async def test_what_was_learned_is_saved_when_there_is_nothing_else_to_do(
    house: Indoors, tmp_path: Path
) -> None:
    await served(house)
    await asked(house, "In CSS, how do I center a div?")
    await house.settled()  # the second was begun when the first had been saved
    after = Labels(as_after_kill(tmp_path, tmp_path / "copy"), ALWAYS, Calibration.load())
    found = after.report_of(CLASS)
    assert found is not None
    assert found.error.labels >= 1
    after.close()
