"""The unmodified OpenAI SDK against a node that answers from a real, small language model."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.conftest import NodeProcess

MODEL = "smollm2-135m-instruct"
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


@pytest.fixture(scope="module")
def client(local_node: NodeProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=local_node.base_url, api_key="none", max_retries=0) as one:
        yield one


def messages(text: str) -> Any:
    return [SYSTEM, {"role": "user", "content": text}]


def ask(client: openai.OpenAI, text: str, **over: Any) -> tuple[str, Any]:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages(text), max_tokens=24, **over
    )
    return raw.headers["cache-status"], raw.parse()


def test_a_miss_an_exact_hit_and_a_hit_by_meaning(client: openai.OpenAI) -> None:
    status, first = ask(client, "How do I center a div in CSS?", temperature=0)
    # The model may have been cut by max_tokens, and is then not stored: ask for something short.
    if first.choices[0].finish_reason != "stop":
        assert status == "edge; fwd=miss; detail=no-candidate"
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages("How do I center a div in CSS?")
    )
    assert raw.headers["cache-status"] == "edge; fwd=miss; stored; detail=no-candidate"
    again = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages("How do I center a div in CSS?")
    )
    assert again.headers["cache-status"].startswith("edge; hit; ttl=")
    assert again.parse() == raw.parse()
    other = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages("CSS: how to center a div?")
    )
    assert other.headers["cache-status"].endswith("; detail=semantic")
    assert other.parse() == raw.parse()
    near_miss = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages("How do I center a table in CSS?"), max_tokens=4
    )
    assert near_miss.headers["cache-status"].startswith("edge; fwd=miss")


def test_a_stream_and_its_replay(client: openai.OpenAI) -> None:
    def stream() -> tuple[list[Any], str]:
        parts = list(
            client.chat.completions.create(
                model=MODEL,
                messages=messages("Say hello."),
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
        return parts, text

    live, text = stream()
    replayed, again = stream()
    assert len(live) > 3
    assert text == again != ""
    assert live[0].id == replayed[0].id
    assert live[-1].usage == replayed[-1].usage is not None
    as_json = client.chat.completions.create(model=MODEL, messages=messages("Say hello."))
    assert as_json.choices[0].message.content == text


async def test_the_async_client_streams_too(local_node: NodeProcess) -> None:
    async with openai.AsyncOpenAI(
        base_url=local_node.base_url, api_key="none", max_retries=0
    ) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=messages("Name one colour."), stream=True, max_tokens=16
        )
        parts = [part async for part in stream]
    assert parts[-1].choices[0].finish_reason in ("stop", "length")


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_errors_are_the_sdks_own_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist on this node"):
        client.chat.completions.create(model="gpt-nonsense", messages=messages("hi"))
    with pytest.raises(openai.BadRequestError, match="at least one message"):
        client.chat.completions.create(model=MODEL, messages=[])
