"""Each form of line, and what is wrong with the others."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.warmup.lines import BadLine, Batch, Defaults, Wanted, wanted

HELLO = [{"role": "user", "content": "Hello?"}]
CHAT = {"model": "m", "messages": HELLO}
INSTRUCTED = [{"role": "system", "content": "Be brief."}, *HELLO]
ANSWER = {"object": "chat.completion", "choices": []}
BATCH_LINE = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
MODEL = Defaults(model="m")


def read(line: Any, defaults: Defaults = MODEL, batch: Batch | None = None) -> Wanted:
    return wanted(json.dumps(line).encode(), defaults, batch)


FORMS: dict[str, tuple[Any, Wanted]] = {
    "text": ("Hello?", Wanted(CHAT)),
    "a prompt": ({"prompt": "Hello?"}, Wanted(CHAT)),
    "a prompt and its model": (
        {"prompt": "Hello?", "model": "other"},
        Wanted({"model": "other", "messages": HELLO}),
    ),
    "a prompt and its instructions": (
        {"prompt": "Hello?", "system": "Be brief."},
        Wanted({"model": "m", "messages": INSTRUCTED}),
    ),
    "a prompt and its answer": ({"prompt": "Hello?", "answer": "Hi."}, Wanted(CHAT, "Hi.")),
    "a chat request": ({**CHAT, "seed": 1}, Wanted({**CHAT, "seed": 1})),
    "a chat request without a model": ({"messages": HELLO}, Wanted(CHAT)),
    "a chat request and its answer": (
        {"request": CHAT, "answer": ANSWER},
        Wanted(CHAT, ANSWER),
    ),
    "a batch's request": (BATCH_LINE, Wanted(CHAT, name="a")),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_says_what_is_wanted(name: str) -> None:
    line, expected = FORMS[name]
    assert read(line) == expected


def test_a_system_prompt_of_the_command_line_is_for_lines_without_one() -> None:
    defaults = Defaults("m", "Be brief.")
    assert read("Hello?", defaults).request["messages"] == INSTRUCTED
    for own in ("system", "developer"):
        messages = [{"role": own, "content": "Be long."}, *HELLO]
        assert read({"messages": messages}, defaults).request["messages"] == messages


def test_a_model_of_the_command_line_changes_none_that_is_named() -> None:
    assert read(CHAT, Defaults("other")).request["model"] == "m"


BAD: dict[str, tuple[Any, str]] = {
    "no model": ({"messages": HELLO, "model": ""}, "names no model"),
    "a number": (3, "neither text nor an object"),
    "null": (None, "neither text nor an object"),
    "an empty prompt": ({"prompt": " "}, "its prompt is not text"),
    "a completion of the older API": (
        {"prompt": "x", "max_tokens": 3},
        "not known here (max_tokens)",
    ),
    "no messages": ({"model": "m"}, "has no messages"),
    "messages that are text": ({"messages": ["x"]}, "not objects"),
    "an answer that is a list": ({"prompt": "x", "model": "m", "answer": []}, "neither text nor"),
    "a batch of embeddings": (
        {**BATCH_LINE, "url": "/v1/embeddings"},
        "only /v1/chat/completions can be warmed",
    ),
    "a batch of GETs": ({**BATCH_LINE, "method": "GET"}, "not POST"),
    "a batch without a body": ({**BATCH_LINE, "body": 3}, "body is no object"),
    "a batch's output": (
        {"custom_id": "a", "response": {"status_code": 200, "body": ANSWER}},
        "--requests",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_line_that_cannot_be_used_is_told_why(name: str) -> None:
    line, reason = BAD[name]
    with pytest.raises(BadLine) as told:
        read(line, Defaults())
    assert reason in str(told.value)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"Hello?", "plain text belongs in quotes"),
        (b"{", "not JSON"),
        (b'"\xff"', "not UTF-8"),
        (b'{"prompt": "a", "prompt": "b"}', "twice"),
        (b'{"messages": [], "temperature": NaN}', "NaN"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_not_json_is_told_apart(raw: bytes, reason: str) -> None:
    with pytest.raises(BadLine) as told:
        wanted(raw, MODEL, None)
    assert reason in str(told.value)


@given(
    st.binary()
    | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_bytes_are_a_wish_or_a_bad_line(raw: bytes) -> None:
    try:
        wanted(raw, MODEL, None)
    except BadLine:
        return


def finished(**response: Any) -> dict[str, Any]:
    return {"id": "batch_req_1", "custom_id": "a", "response": response, "error": None}


@pytest.fixture
def batch() -> Batch:
    one = Batch()
    one.add(json.dumps(BATCH_LINE).encode())
    return one


def test_a_finished_batch_brings_its_answers(batch: Batch) -> None:
    line = finished(status_code=200, request_id="r", body=ANSWER)
    assert read(line, batch=batch) == Wanted(CHAT, ANSWER, "a")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (finished(status_code=429, body={}), "status 429"),
        (finished(status_code=200), "has no body"),
        ({"custom_id": "a", "response": None, "error": {"code": "batch_expired"}}, "batch_expired"),
        (
            {"custom_id": "b", "response": {"status_code": 200, "body": ANSWER}},
            "has this custom_id",
        ),
        ("Hello?", "neither text nor an object"),
    ],
)
def test_what_a_batch_did_not_answer_is_said(batch: Batch, line: Any, reason: str) -> None:
    with pytest.raises(BadLine) as told:
        read(line, batch=batch)
    assert reason in str(told.value)


def test_a_custom_id_that_is_used_twice_is_nobodys(batch: Batch) -> None:
    with pytest.raises(BadLine):
        batch.add(json.dumps(BATCH_LINE).encode())


def test_lines_that_want_the_same_have_one_digest() -> None:
    assert read("Hello?").digest == read({"messages": HELLO, "model": "m"}).digest
    others = ["Hello!", {"prompt": "Hello?", "answer": "Hi."}, {**CHAT, "seed": 1}]
    digests = {read(line).digest for line in ["Hello?", *others]}
    assert len(digests) == 4


def test_tokens_are_estimated_from_what_is_said() -> None:
    parts = [{"type": "text", "text": "a" * 400}, {"type": "image_url", "image_url": {"url": "x"}}]
    assert read("a" * 400).prompt_tokens == 101
    assert read({"messages": [{"role": "user", "content": parts}]}).prompt_tokens == 101
    assert read({**CHAT, "max_completion_tokens": 7}).answer_tokens_max == 7
    assert read(CHAT).answer_tokens_max is None
