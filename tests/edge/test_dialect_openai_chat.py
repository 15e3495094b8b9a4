"""Chat completions: a stream and the JSON form are two spellings of one answer."""

import copy
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.dialects.events import DONE, Event, EventReader
from edge.dialects.openai_chat import OpenAiChat, merge
from edge.errors import ClientError, EdgeError, UpstreamError
from tests.fakes.upstream import chunk, chunks, completion

DIALECT = OpenAiChat()


def assembled(events: Sequence[str]) -> dict[str, Any]:
    assembly = DIALECT.assembly()
    for data in events:
        assembly.feed(Event(data))
    assert assembly.finished
    answer: dict[str, Any] = json.loads(assembly.body())
    return answer


def replayed(answer: dict[str, Any], wants_usage: bool = True) -> list[str]:
    stream = DIALECT.replay(json.dumps(answer).encode(), wants_usage)
    return [event.data for event in EventReader().feed(stream)]


def meaning(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what says nothing: nulls, and the index that only streams have."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items() if inner is not None}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    cleaned: dict[str, Any] = plain(answer)
    return cleaned


# Answers as models give them: words, calls, refusals, thoughts, fields that are not known yet.

WORDS = st.text(st.characters(codec="utf-8"), max_size=80) | st.sampled_from(
    ["", " ", "  a  ", "a\n\n b   ", "👩‍👩‍👧 family", "data: [DONE]\n\n", "é" * 30, "x" * 60]
)
CALLS = st.lists(
    st.builds(
        lambda at, name, arguments: {
            "id": f"call_{at}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        },
        st.integers(0, 10**6),
        st.sampled_from(["f", "get_weather"]),
        st.sampled_from(["", "{}", '{"city":"Łódź 😀"}', '{"a":[1,2,{"b":null}]}']),
    ),
    min_size=1,
    max_size=3,
)
TOKENS = st.lists(
    st.fixed_dictionaries(
        {"token": WORDS, "logprob": st.integers(-9, 0), "top_logprobs": st.just([])}
    ),
    min_size=1,
    max_size=3,
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | WORDS},
    optional={
        "refusal": st.none() | WORDS.filter(bool),
        "tool_calls": CALLS,
        "reasoning_content": WORDS.filter(bool),
        "reasoning": WORDS.filter(bool),
        "annotations": st.lists(st.fixed_dictionaries({"type": st.just("url_citation")})),
        "something_new": st.fixed_dictionaries({"deep": st.lists(st.integers()), "text": WORDS}),
        "score": st.integers(),
    },
)
CHOICES = st.lists(
    st.tuples(
        MESSAGES,
        st.sampled_from(["stop", "tool_calls", "length", "content_filter"]),
        st.none() | st.fixed_dictionaries({"content": TOKENS}),
        st.booleans(),
    ),
    min_size=1,
    max_size=3,
)


def answer_of(choices: list[Any]) -> dict[str, Any]:
    made = [
        {
            "index": at,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": finish,
            **({"stop_reason": "###"} if extra else {}),
        }
        for at, (message, finish, logprobs, extra) in enumerate(choices)
    ]
    return completion("", choices=made, service_tier="default")


ANSWERS = CHOICES.map(answer_of)


@settings(max_examples=150)
@given(ANSWERS)
def test_replayed_and_put_together_again_an_answer_is_the_same(answer: dict[str, Any]) -> None:
    again = assembled(replayed(answer))
    assert meaning(again) == meaning(answer)
    assert assembled(replayed(again)) == again


@settings(max_examples=60)
@given(ANSWERS, st.booleans())
def test_a_replay_has_the_frame_of_a_live_stream(answer: dict[str, Any], wants_usage: bool) -> None:
    *documents, done = replayed(answer, wants_usage)
    parsed = [json.loads(document) for document in documents]
    assert done == "[DONE]"
    frames = {(p["id"], p["object"], p["created"], p["model"]) for p in parsed}
    assert frames == {(answer["id"], "chat.completion.chunk", answer["created"], answer["model"])}
    assert [p for p in parsed if not p["choices"]] == (parsed[-1:] if wants_usage else [])
    for index, choice in enumerate(answer["choices"]):
        parts = [
            p["choices"][0] for p in parsed if p["choices"] and p["choices"][0]["index"] == index
        ]
        assert parts[0]["delta"]["role"] == "assistant"
        assert [part["finish_reason"] for part in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1]["finish_reason"] == choice["finish_reason"]


@given(WORDS)
def test_no_character_of_a_text_is_lost_when_it_is_cut_in_pieces(text: str) -> None:
    pieces = [
        json.loads(data)["choices"][0]["delta"].get("content", "")
        for data in replayed(completion(text), wants_usage=False)[1:-2]
    ]
    assert "".join(pieces) == text
    assert all(pieces)


# Streams as models send them.


def parts(choice: dict[str, Any], sizes: st.DataObject) -> list[dict[str, Any]]:
    """The deltas of one choice, its texts and arguments cut anywhere, even within an emoji."""

    def cuts(text: str) -> list[str]:
        units = text.encode("utf-16-le", "surrogatepass")
        at = sorted(sizes.draw(st.lists(st.integers(0, len(units) // 2), max_size=3)))
        bounds = [0, *(2 * one for one in at), len(units)]
        pieces = [units[a:b] for a, b in itertools.pairwise(bounds)]
        return [piece.decode("utf-16-le", "surrogatepass") for piece in pieces]

    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    for name in ("content", "refusal", "reasoning_content", "reasoning"):
        if message.get(name) is not None:
            deltas += [{name: piece} for piece in cuts(message[name])]
    for at, call in enumerate(message.get("tool_calls") or ()):
        head = {**call, "index": at, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [head]})
        for piece in cuts(call["function"]["arguments"]):
            deltas.append({"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
    made = [{"index": choice["index"], "delta": delta, "finish_reason": None} for delta in deltas]
    for at, token in enumerate((choice["logprobs"] or {}).get("content", ())):
        made[min(at, len(made) - 1)].setdefault("logprobs", {"content": []})["content"].append(
            token
        )
    rest = ("index", "message", "logprobs")
    last = {name: value for name, value in choice.items() if name not in rest}
    return [*made, {"index": choice["index"], "delta": {}, **last}]


def interleaved(streams: list[list[Any]], data: st.DataObject) -> list[Any]:
    """All items of all streams, each stream in its order."""
    left = [list(stream) for stream in streams]
    merged = []
    while any(left):
        chosen = data.draw(st.sampled_from([stream for stream in left if stream]))
        merged.append(chosen.pop(0))
    return merged


SENT = ("role", "content", "refusal", "tool_calls", "reasoning_content", "reasoning")


@settings(max_examples=100)
@given(CHOICES, st.data())
def test_a_stream_put_together_is_the_json_form(choices: list[Any], data: st.DataObject) -> None:
    answer = answer_of(choices)
    for choice in answer["choices"]:
        choice["message"] = {k: v for k, v in choice["message"].items() if k in SENT}
    sent = interleaved([parts(choice, data) for choice in answer["choices"]], data)
    frame = {k: v for k, v in answer.items() if k not in ("choices", "usage")}
    chunks = [{**frame, "object": "chat.completion.chunk", "choices": [part]} for part in sent]
    chunks.append({**frame, "choices": [], "usage": answer["usage"]})
    events = [*map(json.dumps, chunks), "[DONE]"]
    together = assembled(events)
    assert meaning(together) == meaning(answer)
    assert meaning(assembled(replayed(together))) == meaning(answer)


def test_halves_of_an_emoji_meet_again_in_every_form() -> None:
    """Both live, where each event is sent on alone, and in the answer that is kept."""
    halves = [chunk({"content": half}, usage=None) for half in ("a \ud83d", "\ude00 b")]
    live = [DIALECT.live(Event(half), wants_usage=False) for half in halves]
    assert all(event is not None and b"usage" not in event for event in live)
    deltas = [
        json.loads(event.data)["choices"][0]["delta"]["content"]
        for event in EventReader().feed(b"".join(event or b"" for event in live))
    ]
    text = "".join(deltas).encode("utf-16", "surrogatepass").decode("utf-16")
    assert text == "a 😀 b"
    answer = assembled([*halves, chunk({}, finish="stop")])
    assert answer["choices"][0]["message"]["content"] == "a 😀 b"


def test_half_an_emoji_for_ever_is_a_replacement_character() -> None:
    answer = assembled([chunk({"content": "a\ud83d"}), chunk({}, finish="stop")])
    assert answer["choices"][0]["message"]["content"] == "a\ufffd"


def test_thoughts_come_before_words_in_a_replay() -> None:
    answer = completion("The answer.")
    answer["choices"][0]["message"]["reasoning_content"] = "Let me think."
    names = [list(json.loads(d)["choices"][0]["delta"]) for d in replayed(answer, False)[:-2]]
    assert names[:3] == [["role", "content"], ["reasoning_content"], ["content"]]


def test_a_long_stream_costs_no_more_than_its_length() -> None:
    """Each piece of text is kept as it is: 50,000 tokens are not copied 50,000 times."""
    whole: dict[str, Any] = {"content": "a"}
    for _ in range(50_000):
        merge(whole, {"content": "b"})
    assert len(whole["content"].pieces) == 50_001


def test_merge_of_dicts_lists_and_scalars() -> None:
    whole: dict[str, Any] = {}
    merge(whole, {"a": {"b": [1], "c": "x"}, "n": 1, "role": "assistant", "u": None})
    merge(whole, {"a": {"b": [2], "d": None}, "n": 2, "role": "assistant", "u": None})
    assert whole == {
        "a": {"b": [1, 2], "c": "x", "d": None},
        "n": 2,
        "role": "assistant",
        "u": None,
    }


# What makes no sense is the upstream's fault, whatever it is.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "index",
                    "tool_calls",
                    "function",
                    "logprobs",
                    "content",
                    "error",
                    "message",
                    "finish_reason",
                    "usage",
                    "role",
                    "code",
                    "refusal",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=300)
@given(st.lists(JSON, max_size=4), JSON)
@example([{"choices": [{"delta": {"tool_calls": ["x"]}}]}], None)
@example([{"choices": [{"delta": {"x": ["a", {"index": 0}, {"index": 0}]}}]}], None)
@example([{"choices": 5}], None)
@example([{"choices": [{"delta": [1]}]}], None)
@example([{"choices": [{"logprobs": [1]}]}], None)
@example([{"choices": [{"finish_reason": []}]}], None)
@example([], {"choices": [{"message": {"tool_calls": [1]}, "finish_reason": []}]})
def test_any_event_and_any_answer_is_taken_or_refused(events: list[Any], answer: Any) -> None:
    assembly = DIALECT.assembly()
    try:
        for document in events:
            assembly.feed(Event(json.dumps(document)))
        whole = json.loads(assembly.body())
        DIALECT.check(whole)
        DIALECT.unfit(whole)
        replayed(whole)
    except EdgeError:
        pass
    if isinstance(answer, dict):
        try:
            DIALECT.check(answer)
        except EdgeError:
            return
        DIALECT.unfit(answer)
        replayed(answer)


@pytest.mark.parametrize(
    "data",
    ["", "{", "[]", "7", '"x"', '{"choices":[7]}', '{"choices":[{"index":"a"}]}', "[" * 5000],
)
def test_events_that_make_no_sense(data: str) -> None:
    with pytest.raises(UpstreamError):
        DIALECT.assembly().feed(Event(data))


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        ({"message": "m", "code": 429}, 429, UpstreamError),
        ({"message": "m", "code": "429"}, 429, UpstreamError),
        ({"message": "m", "type": "rate_limit_error"}, 429, UpstreamError),
        ({"message": "m", "code": "insufficient_quota"}, 429, UpstreamError),
        ({"message": "m", "type": "overloaded_error"}, 503, UpstreamError),
        ({"message": "m", "status": 503}, 503, UpstreamError),
        ({"message": "m", "code": None}, 502, UpstreamError),
        ("m", 502, UpstreamError),
        ({"message": "m", "code": 400}, 400, ClientError),
        ({"message": "m", "code": 422}, 422, ClientError),
    ],
)
def test_an_error_in_band_is_whose_fault_it_says(
    error: Any, status: int, kind: type[EdgeError]
) -> None:
    with pytest.raises(EdgeError) as raised:
        DIALECT.assembly().feed(Event(json.dumps({"error": error})))
    with pytest.raises(EdgeError) as in_json:
        DIALECT.check({"error": error})
    for one in (raised.value, in_json.value):
        assert (type(one), one.status) == (kind, status)
        assert one.message.endswith("m")


def test_an_answer_has_ended_when_every_choice_has() -> None:
    assembly = DIALECT.assembly()
    assert not assembly.finished
    assembly.feed(Event(chunk({"content": "x"})))
    assert not assembly.finished
    assembly.feed(Event(chunk({}, finish="stop")))
    assert assembly.finished
    second = {"index": 1, "delta": {"content": "y"}, "finish_reason": None}
    assembly.feed(Event(chunk({}, choices=[second])))
    assert not assembly.finished
    assembly.feed(DONE)
    assert not assembly.finished


# Requests


def chat(**over: Any) -> bytes:
    messages = [{"role": "user", "content": "hi"}]
    return json.dumps({"model": "m", "messages": messages, **over}).encode()


@pytest.mark.parametrize(
    "name",
    [
        "api_base",
        "base_url",
        "api_key",
        "API_KEY",
        "openai_api_key",
        "x-portkey-custom-host",
        "target_url",
        "azure_endpoint",
        "aws_secret_access_key",
        "extra_headers",
        "api-base",
    ],
)
def test_case_23_names_of_upstreams_and_keys_are_refused(name: str) -> None:
    with pytest.raises(ClientError) as refused:
        DIALECT.parse(chat(**{name: "http://2130706433/"}))
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", name)


@pytest.mark.parametrize("name", ["user", "key", "url", "base", "metadata", "api", "custom_hosts"])
def test_other_unknown_parameters_are_forwarded(name: str) -> None:
    sent = DIALECT.upstream_body(chat(**{name: "x"}), "m", stream=False, usage=True)
    assert json.loads(sent)[name] == "x"


def test_only_a_stream_is_asked_for_its_usage() -> None:
    asked = copy.deepcopy(json.loads(chat(stream=True, stream_options={"x": 1})))
    body = json.dumps(asked).encode()
    with_usage = json.loads(DIALECT.upstream_body(body, "m", stream=True, usage=True))
    assert with_usage == {**asked, "stream_options": {"x": 1, "include_usage": True}}
    assert json.loads(DIALECT.upstream_body(body, "m", stream=True, usage=False)) == asked
    assert json.loads(DIALECT.upstream_body(chat(), "m", stream=False, usage=True)) == json.loads(
        chat()
    )


def test_the_temperature_above_which_nothing_is_cached() -> None:
    strict = OpenAiChat(cacheable_temperature=0.5)
    asked = [None, 0, 0.5, 0.51, 2]
    assert [strict.parse(chat(temperature=t)).bypass for t in asked] == [
        None, None, None, "temperature", "temperature",
    ]  # fmt: skip
    assert DIALECT.parse(chat(temperature=2)).bypass is None


def test_live_events_pass_as_they_came_but_for_usage_nobody_asked_for() -> None:
    events = [Event(data) for data in chunks("some usage words", usage=True)]
    as_sent = [DIALECT.live(event, wants_usage=True) for event in events]
    assert as_sent == [f"data: {event.data}\n\n".encode() for event in events]
    unasked = [DIALECT.live(event, wants_usage=False) for event in events]
    assert unasked[-2] is None
    assert [*unasked[:-2], unasked[-1]] == [*as_sent[:-2], as_sent[-1]]
