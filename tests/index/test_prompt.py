"""The laws of keys: what is the same request, and who may share its answer.

A parameter that is missing from `PARAMETERS` has no proof that it is keyed: add new ones there.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.dialects.openai_chat import OpenAiChat
from index.eligibility import PromptClass, check_overrides
from index.entry import CacheKey, Question, Scope
from index.prompt import Prompt, Routed, exact_key, route

SECRET = bytes(range(32))
SHARED = Scope("shared")
VECTORS = Path(__file__).parents[1] / "vectors" / "keys.json"

BASE: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello there, who are you?"},
        {"role": "assistant", "content": "A machine that answers questions."},
        {"role": "user", "content": "How do I reset my password on the website?"},
    ],
}

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}

PARAMETERS: dict[str, list[Any]] = {
    "audio": [{"voice": "alloy", "format": "wav"}, {"voice": "echo", "format": "wav"}],
    "frequency_penalty": [0, 0.5, -2],
    "function_call": ["auto", "none", {"name": "f"}],
    "functions": [[{"name": "f"}], [{"name": "g"}]],
    "logit_bias": [{"50256": -100}, {"50256": 100}],
    "logprobs": [True],
    "max_completion_tokens": [1, 100],
    "max_tokens": [1, 100],
    "metadata": [{"a": "b"}, {"a": "c"}],
    "modalities": [["text"], ["text", "audio"]],
    "moderation": [{"model": "x"}],
    "n": [2, 3],
    "parallel_tool_calls": [True, False],
    "prediction": [{"type": "content", "content": "x"}],
    "presence_penalty": [0, 0.5],
    "prompt_cache_key": ["a", "b"],
    "prompt_cache_retention": ["24h"],
    "reasoning_effort": ["low", "high"],
    "response_format": [{"type": "text"}, {"type": "json_object"}],
    "safety_identifier": ["a", "b"],
    "seed": [0, 1],
    "service_tier": ["auto", "flex"],
    "stop": ["a", ["a"], ["a", "b"]],
    "store": [True, False],
    "temperature": [0, 0.7, 1, 2],
    "tool_choice": ["auto", "required"],
    "tools": [[TOOL], [TOOL, TOOL]],
    "top_logprobs": [0, 5],
    "top_p": [0.1, 1],
    "user": ["a", "b"],
    "verbosity": ["low", "high"],
    "web_search_options": [{}, {"search_context_size": "low"}],
    # Not of the API, or not of the API yet: what is not known may change the answer.
    "top_k": [1, 40],
    "chat_template_kwargs": [{"enable_thinking": False}],
    "something_new": [0, False, "", [], {}, [[]], "0"],
}


def prompt(request: Any, dialect: OpenAiChat | None = None) -> Prompt:
    return (dialect or OpenAiChat()).parse(json.dumps(request).encode()).prompt


def key(request: Any, scope: Scope = SHARED, secret: bytes = SECRET) -> CacheKey:
    return exact_key(prompt(request), scope, secret)


def asked(request: Any, scope: Scope = SHARED, secret: bytes = SECRET) -> Question | str:
    routed = route(prompt(request), scope, secret)
    return routed.question or routed.reason


def partition(request: Any, scope: Scope = SHARED) -> bytes:
    found = asked(request, scope)
    assert isinstance(found, Question), found
    return found.partition


def changed(path: str, value: Any) -> dict[str, Any]:
    """BASE with `value` at `path`, such as `messages.0.content`."""
    request = copy.deepcopy(BASE)
    *way, last = path.split(".")
    place: Any = request
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[last] = value
    return request


# The exact key


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_parameter_is_in_the_key(name: str) -> None:
    requests = [BASE, *({**BASE, name: value} for value in PARAMETERS[name])]
    assert len({key(request) for request in requests}) == len(requests)


IN_MESSAGES = [
    ("model", "n"),
    ("model", "M"),
    ("messages.0.content", "Be brief. "),
    ("messages.0.role", "developer"),
    ("messages.1.content", "Hello there, who are we?"),
    ("messages.2.content", "A machine."),
    ("messages.1.name", "bob"),
    ("messages.2.refusal", "no"),
    ("messages.2.tool_calls", [{"id": "1"}]),
    ("messages.3.content", "How do I reset my password on the website"),
    ("messages.3.content", "How do I reset my password on the website?\u200b"),
    ("messages.3.content", "How do I reset my password on the website?\x00"),
    ("messages.3.content", "how do I reset my password on the website?"),
    ("messages.3.content", [{"type": "text", "text": "How do I reset my password?"}]),
    ("messages.3.something_new", 1),
]


def test_each_part_of_a_message_is_in_the_key() -> None:
    requests = [BASE, *(changed(path, value) for path, value in IN_MESSAGES)]
    requests.append({**BASE, "messages": BASE["messages"][::-1]})
    requests.append({**BASE, "messages": BASE["messages"][1:]})
    assert len({key(request) for request in requests}) == len(requests)


@pytest.mark.parametrize(
    "same",
    [
        {"stream": True},
        {"stream": False},
        {"stream": None},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"n": 1},
        {"n": 1.0},
        {"logprobs": False},
        *({name: None} for name in PARAMETERS),
    ],
    ids=str,
)
def test_transport_defaults_and_nulls_are_not(same: dict[str, Any]) -> None:
    assert key({**BASE, **same}) == key(BASE)


@pytest.mark.parametrize("lookalike", [{"n": True}, {"logprobs": 0}, {"n": "1"}], ids=str)
def test_what_only_looks_like_a_default_is_keyed(lookalike: dict[str, Any]) -> None:
    assert key({**BASE, **lookalike}) != key(BASE)


def test_an_omitted_temperature_is_no_number() -> None:
    values = [BASE, *({**BASE, "temperature": t} for t in (0, 1, 0.5))]
    assert len({key(request) for request in values}) == 4


def test_ignored_parameters_are_left_out_and_no_others() -> None:
    dialect = OpenAiChat(ignored=["user", "metadata"])
    plain = prompt(BASE, dialect)
    assert prompt({**BASE, "user": "a", "metadata": {"b": "c"}}, dialect) == plain
    assert prompt({**BASE, "seed": 1}, dialect) != plain
    assert prompt(changed("messages.0.user", "a"), dialect) != plain


VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(-1e6, 1e6)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
EXTRAS = st.dictionaries(st.sampled_from(sorted(PARAMETERS)), VALUES, max_size=4)


def respelt(draw: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: respelt(draw, value[name]) for name in draw(st.permutations(list(value)))}
    if isinstance(value, list):
        return [respelt(draw, item) for item in value]
    return float(value) if type(value) is int and draw(st.booleans()) else value


@settings(max_examples=60)
@given(st.data(), EXTRAS, st.sampled_from([None, 2]), st.booleans())
def test_the_spelling_of_the_json_is_not_in_the_key(
    data: st.DataObject, extras: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    request = {**BASE, **extras}
    body = json.dumps(respelt(data.draw, request), indent=indent, ensure_ascii=ascii_only)
    again = OpenAiChat().parse(body.encode()).prompt
    assert exact_key(again, SHARED, SECRET) == key(request)


def meaning(extras: dict[str, Any]) -> str:
    """What two requests must have in common to be the same: strictly, 1 and True are not."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        return [plain(item) for item in value] if isinstance(value, list) else value

    said = plain(extras)
    defaults = {"n": "1", "logprobs": "false"}
    kept = {k: v for k, v in said.items() if json.dumps(v) != defaults.get(k)}
    return json.dumps(kept, sort_keys=True)


@settings(max_examples=100)
@given(EXTRAS, EXTRAS)
@example({"n": 1}, {})
@example({"n": True}, {})
@example({"seed": 0}, {"seed": False})
@example({"stop": ["a,b"]}, {"stop": ["a", "b"]})
def test_keys_are_equal_only_for_equal_requests(a: dict[str, Any], b: dict[str, Any]) -> None:
    same = meaning(a) == meaning(b)
    assert (key({**BASE, **a}) == key({**BASE, **b})) == same


@given(st.text(max_size=20), st.text(max_size=20), st.binary(min_size=1, max_size=32))
def test_tenants_and_fleets_never_share_a_key(a: str, b: str, secret: bytes) -> None:
    one, two = Scope(f"tenant:{a}"), Scope(f"tenant:{b}")
    assert (key(BASE, one) == key(BASE, two)) == (a == b)
    assert key(BASE, one) != key(BASE, SHARED)
    assert (key(BASE, one, secret) == key(BASE, one)) == (secret == SECRET)


def test_parts_of_a_key_do_not_run_into_each_other() -> None:
    ways = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")]
    keys = {exact_key(Prompt(op, "m", body.encode()), SHARED, SECRET) for op, body in ways}
    assert len(keys) == 4


def test_equal_bodies_to_different_apis_have_different_keys() -> None:
    chat = prompt(BASE)
    other = Prompt("responses", chat.model, chat.canonical)
    assert exact_key(other, SHARED, SECRET) != exact_key(chat, SHARED, SECRET)


# The partition: everything but the last user text


def test_the_last_user_text_alone_is_left_out_of_the_partition() -> None:
    other = changed("messages.3.content", "Where can I change the password of my account?")
    assert partition(other) == partition(BASE)
    found = asked(other)
    assert isinstance(found, Question)
    assert found.text == "Where can I change the password of my account?"
    assert key(other) != key(BASE)


FRAME = [
    ("model", "n"),
    ("messages.0.content", "Be brief.."),
    ("messages.0.role", "developer"),
    ("messages.1.content", "Hello there, who are we?"),
    ("messages.2.content", "A machine."),
    ("messages.3.name", "bob"),
    ("temperature", 0),
    ("temperature", 1),
    ("top_p", 0.5),
    ("max_tokens", 5),
    ("max_completion_tokens", 5),
    ("seed", 1),
    ("stop", ["x"]),
    ("presence_penalty", 1),
    ("frequency_penalty", 1),
    ("logit_bias", {"1": 1}),
    ("reasoning_effort", "low"),
    ("verbosity", "low"),
    ("user", "a"),
    ("something_new", {}),
    ("response_format", {"type": "text"}),
]


def test_everything_else_is_in_it() -> None:
    partitions = {partition(changed(path, value)) for path, value in FRAME} | {partition(BASE)}
    assert len(partitions) == len(FRAME) + 1
    shorter = {**BASE, "messages": BASE["messages"][2:]}
    alone = {**BASE, "messages": BASE["messages"][3:]}
    others = {
        partition(shorter),
        partition(alone),
        partition(BASE, Scope("tenant:a")),
        partition(BASE, Scope("tenant:b")),
    }
    assert len(others | partitions) == len(FRAME) + 5


@settings(max_examples=60)
@given(EXTRAS, EXTRAS)
def test_partitions_are_equal_only_for_equal_frames(a: dict[str, Any], b: dict[str, Any]) -> None:
    one, two = asked({**BASE, **a}), asked({**changed("messages.1.content", "Hi there"), **a})
    assert isinstance(one, str) == isinstance(two, str)
    assert isinstance(one, str) or one != two
    three = asked({**BASE, **b})
    if isinstance(one, Question) and isinstance(three, Question):
        assert (one.partition == three.partition) == (meaning(a) == meaning(b))


def test_a_key_is_never_a_partition() -> None:
    assert partition(BASE) != key(BASE)


CALLING = [
    ("tools", [TOOL], "tools"),
    ("tool_choice", "auto", "tools"),
    ("functions", [{"name": "f"}], "tools"),
    ("function_call", "auto", "tools"),
    ("response_format", {"type": "json_object"}, "format"),
    ("response_format", {"type": "json_schema", "json_schema": {}}, "format"),
    ("logprobs", True, "logprobs"),
    ("modalities", ["text", "audio"], "modality"),
    ("audio", {"voice": "x"}, "modality"),
    ("prediction", {"type": "content"}, "prediction"),
    ("web_search_options", {}, "time-bound"),
    ("web_search_options", {"user_location": {}}, "time-bound"),
    ("n", 2, "n"),
    ("messages.2.tool_calls", [{"id": "1"}], "tools"),
    ("messages.2.function_call", {"name": "f"}, "tools"),
    ("messages.2.audio", {"id": "1"}, "no-text"),
    ("messages.2.role", "tool", "tools"),
    ("messages.2.content", None, "no-text"),
    ("messages.3.role", "assistant", "no-text"),
    ("messages.3.content", None, "no-text"),
    ("messages.3.content", [], "no-text"),
    ("messages.3.content", 7, "no-text"),
    ("messages.3.content", [{"type": "image_url", "image_url": {"url": "x"}}], "no-text"),
    (
        "messages.3.content",
        [{"type": "text", "text": "What is in the picture?"}, {"type": "image_url"}],
        "no-text",
    ),
    (
        "messages.3.content",
        [{"type": "text", "text": "What is a part?"}, {"type": "text", "text": "And two?"}],
        "no-text",
    ),
]


@pytest.mark.parametrize(("path", "value", "reason"), CALLING)
def test_what_binds_an_answer_to_its_very_words(path: str, value: Any, reason: str) -> None:
    assert asked(changed(path, value)) == reason


def test_one_text_part_is_a_text() -> None:
    content = [{"type": "text", "text": "How do I reset my password on the website?"}]
    found = asked(changed("messages.3.content", content))
    assert isinstance(found, Question)
    assert found.text == content[0]["text"]


# Time


@pytest.mark.parametrize(
    ("over", "bound"),
    [
        ({}, False),
        ({"messages.3.content": "What is the weather in Paris today?"}, True),
        ({"messages.3.content": "What is the weather in Paris today?", "tools": [TOOL]}, True),
        ({"messages.3.content": "Who won the match yesterday?", "n": 2}, True),
        ({"web_search_options": {}}, True),
        (
            {"messages.3.content": [{"type": "text", "text": "What is the latest news today?"}]},
            True,
        ),
    ],
    ids=str,
)
def test_what_is_about_now_is_time_bound_whatever_else_it_is(
    over: dict[str, Any], bound: bool
) -> None:
    request = copy.deepcopy(BASE)
    for path, value in over.items():
        if path.startswith("messages"):
            request["messages"][3]["content"] = value
        else:
            request[path] = value
    assert route(prompt(request), SHARED, SECRET).time_bound is bound


# Classes


def routed(request: Any, overrides: dict[str, str] | None = None) -> Routed:
    return route(prompt(request), SHARED, SECRET, check_overrides(overrides or {}))


def chat(*texts: str, system: str | None = "Be brief.", **parameters: Any) -> dict[str, Any]:
    """A conversation in which user and assistant take turns."""
    turns = [
        {"role": "assistant" if at % 2 else "user", "content": text}
        for at, text in enumerate(texts)
    ]
    before = [] if system is None else [{"role": "system", "content": system}]
    return {"model": "m", "messages": [*before, *turns], **parameters}


PLAIN = "What is the tallest mountain in Peru?"


@pytest.mark.parametrize(
    ("request_", "cls", "reason"),
    [
        (chat(PLAIN), PromptClass.SEMANTIC, ""),
        (chat("Is $500 a lot for a bicycle?"), PromptClass.SEMANTIC, "amount"),
        (chat("What is the weather today?"), PromptClass.EXACT_ONLY, "time-bound"),
        (chat("Where is my order?"), PromptClass.EXACT_ONLY, "personal"),
        (chat("Where is my order?", user="u1"), PromptClass.SEMANTIC, ""),
        (chat("Where is my order?", user=""), PromptClass.EXACT_ONLY, "personal"),
        (chat("My password: hunter2"), PromptClass.BYPASS, "secret"),
        (chat("I am ada@example.com", "Hello!", PLAIN), PromptClass.BYPASS, "secret"),
        (
            chat("My pin is 1234", "Hm.", PLAIN, system=None, tools=[TOOL]),
            PromptClass.BYPASS,
            "secret",
        ),
        (chat("Tell me another joke"), PromptClass.BYPASS, "chance"),
        (chat("and the second one?"), PromptClass.EXACT_ONLY, "context"),
        (chat("Hi", "Hello!", "and the second one?"), PromptClass.THREAD_SCOPED, "context"),
        (chat("I live in Rome", "Nice!", PLAIN), PromptClass.THREAD_SCOPED, ""),
        (chat("What is a mango?", "A fruit.", PLAIN), PromptClass.SEMANTIC, ""),
        (chat(PLAIN, tools=[TOOL]), PromptClass.EXACT_ONLY, "tools"),
        (chat("What is the weather today?", tools=[TOOL]), PromptClass.EXACT_ONLY, "time-bound"),
    ],
    ids=str,
)
def test_each_prompt_has_a_class_and_a_reason(
    request_: dict[str, Any], cls: PromptClass, reason: str
) -> None:
    found = routed(request_)
    assert (found.cls, found.reason) == (cls, reason)
    matched = cls in (PromptClass.SEMANTIC, PromptClass.THREAD_SCOPED)
    assert (found.question is not None) == matched
    assert (found.asked is not None) == matched
    assert found.time_bound == (reason == "time-bound")


def test_a_turn_that_stands_alone_is_asked_where_there_is_no_history() -> None:
    found = routed(chat("What is a mango?", "A fruit.", PLAIN))
    assert found.question is not None
    assert found.alone == found.asked == routed(chat(PLAIN)).question
    assert found.alone != found.question
    other = routed(chat("What is a mango?", "A fruit.", PLAIN, system="Be long."))
    assert other.alone not in (None, found.alone)


def test_a_thread_scoped_turn_is_asked_under_an_equal_history_only() -> None:
    one = routed(chat("I live in Rome", "Nice!", "and the second one?"))
    same = routed(chat("I live in Rome", "Nice!", "and what is the second one?"))
    assert one.question is not None
    assert same.question is not None
    assert one.alone is None
    assert one.question.partition == same.question.partition
    for other in (
        chat("I live in Roma", "Nice!", "and the second one?"),
        chat("I live in Rome", "Great!", "and the second one?"),
        chat("I live in Rome", "Nice!", "and the second one?", system="Be long."),
    ):
        found = routed(other).question
        assert found is not None
        assert found.partition != one.question.partition


def test_without_a_system_text_whoever_was_spoken_to_stays_in_the_partition() -> None:
    last = "Do you offer gift vouchers for two people?"
    one, other, again = (
        routed(chat(f"Is {place} heated in winter?", answer, last, system=None))
        for place, answer in (("Olivetto", "Yes."), ("Casa Romero", "Yes."), ("Olivetto", "No."))
    )
    assert one.alone is not None
    assert one.alone == again.alone
    assert one.alone != other.alone


def test_an_operator_may_change_the_class_of_a_reason() -> None:
    order = chat("Where is my order?")
    assert routed(order, {"personal": "semantic"}).cls == PromptClass.SEMANTIC
    assert routed(order, {"personal": "bypass"}).cls == PromptClass.BYPASS
    assert routed(chat(PLAIN, tools=[TOOL]), {"tools": "semantic"}).cls == PromptClass.SEMANTIC
    still = routed(chat("Where was my order yesterday?"), {"personal": "semantic"})
    assert (still.cls, still.reason) == (PromptClass.EXACT_ONLY, "time-bound")
    tool = {"role": "tool", "tool_call_id": "1", "content": "There are many mountains."}
    agent = {"model": "m", "messages": [*chat(PLAIN)["messages"], tool]}
    found = routed(agent, {"tools": "semantic"})
    assert found.question is None  # there is no text of the user's to compare
    assert found.cls == PromptClass.EXACT_ONLY


# Golden vectors: a change here makes every stored answer unreachable. If it is meant, raise
# `index.answers.KEYS` with it.


def vectors() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(VECTORS.read_text("utf-8"))["cases"]
    return cases


@pytest.mark.parametrize("case", vectors(), ids=lambda case: str(case["name"]))
def test_golden_vectors(case: dict[str, Any]) -> None:
    scope, secret = Scope(case["scope"]), bytes.fromhex(case["secret"])
    made = OpenAiChat().parse(case["body"].encode()).prompt
    assert made.canonical.decode() == case["canonical"]
    assert exact_key(made, scope, secret).hex() == case["key"]
    routed = route(made, scope, secret)
    got = routed.question.partition.hex() if routed.question else routed.reason
    assert got == case["partition"]
