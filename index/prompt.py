"""A request reduced to what may change its answer.

Three things come out of a request body: the *exact key* (everything in it, and who may share the
answer), the *partition* (the same without the last user text, but with the encoder), and that last
text, which alone is ever compared by meaning. Unknown parameters are part of both keys: what we do
not know may change the answer, so it must be equal (security finding A5).

The keys are BLAKE2b keyed with a secret of the fleet, so that knowing a prompt is not enough to ask
whether somebody's answer to it is stored.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from index import eligibility
from index.entry import CacheKey, PartitionKey, Question, Scope

KEY_BYTES = 32

_DEFAULTS: Mapping[str, object] = {"n": 1, "logprobs": False}
"""Parameters whose default the API defines for every model: sent or left out, the same request."""

_EXACT_ONLY = (
    ("tools", "tools"),
    ("functions", "tools"),
    ("tool_choice", "tools"),
    ("function_call", "tools"),
    ("response_format", "format"),
    ("logprobs", "logprobs"),
    ("audio", "modality"),
    ("modalities", "modality"),
    ("prediction", "prediction"),
    ("web_search_options", "time-bound"),
)
"""Parameters that bind an answer to its prompt's very words, and the reason we then give."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What may change the answer, and nothing else.

    `canonical` is the canonical JSON of the effective request; `operation` names the API that was
    called, since equal bodies mean different things to different APIs.
    """

    operation: str
    model: str
    canonical: bytes


def effective(payload: Mapping[str, Any], transport: frozenset[str]) -> dict[str, Any]:
    """`payload` without what cannot change the answer: `transport` names, nulls and known defaults.

    A null means "not set" to the API, and a parameter that is not set is keyed as such: an omitted
    temperature is the provider's default, whatever that is, and never equal to a number.
    """
    return {
        name: value
        for name, value in payload.items()
        if name not in transport and value is not None and not _is_default(name, value)
    }


def _is_default(name: str, value: Any) -> bool:
    default = _DEFAULTS.get(name)
    return value == default and type(value) is type(default)  # to Python, True is 1


def exact_key(prompt: Prompt, scope: Scope, secret: bytes) -> CacheKey:
    """The name of the answer: equal for two requests only if they may share it."""
    return CacheKey(_digest(secret, b"exact", scope, prompt.operation, prompt.canonical))


def question(prompt: Prompt, scope: Scope, secret: bytes, encoder: str) -> Question | str:
    """The part compared by meaning, or the reason why this prompt is matched exactly only."""
    request = json.loads(prompt.canonical)
    reason = _exact_only(request)
    if reason:
        return reason
    text = _take_last_text(request)
    if text is None:
        return "no-text"
    reason = eligibility.ineligible(text)
    if reason:
        return reason
    frame = json.dumps(request, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    partition = _digest(secret, b"partition", scope, prompt.operation, encoder, frame.encode())
    return Question(PartitionKey(partition), text)


def time_bound(prompt: Prompt) -> bool:
    """Does it ask about now, so that its answer ages quickly? As far as its last words tell."""
    request = json.loads(prompt.canonical)
    messages = request.get("messages")
    if request.get("web_search_options") is not None:
        return True
    last = messages[-1] if isinstance(messages, list) and messages else {}
    text = _text(last.get("content")) if isinstance(last, dict) else None
    return text is not None and eligibility.ineligible(text) == "time-bound"


def _digest(secret: bytes, *parts: bytes | str) -> bytes:
    digest = blake2b(key=secret, digest_size=KEY_BYTES)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        # Lengths first: ("ab", "c") and ("a", "bc") must not meet.
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()


def _exact_only(request: Mapping[str, Any]) -> str | None:
    for name, reason in _EXACT_ONLY:
        value = request.get(name)
        if value in (None, False, [], ""):  # but {} says something: search the web, as you please
            continue
        if not (name == "response_format" and value == {"type": "text"}):
            return reason
    if request.get("n", 1) != 1:
        return "n"
    return None


def _take_last_text(request: dict[str, Any]) -> str | None:
    """Blank the last user text in `request` and return it; None if the turn is not plain text."""
    messages = request.get("messages")
    if not isinstance(messages, list) or not all(map(_is_plain, messages)):
        return None
    last = messages[-1] if messages else {}
    if last.get("role") != "user":
        return None
    content = last["content"]
    if isinstance(content, str):
        last["content"] = None
        return content
    part = content[0]
    text = part.get("text")
    if len(content) != 1 or not isinstance(text, str):
        return None
    part["text"] = None
    return text


def _text(content: Any) -> str | None:
    """The words of a turn, whatever else is in it."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return next((text for text in reversed(texts) if isinstance(text, str)), None)


def _is_plain(message: Any) -> bool:
    """Is it a turn of a conversation in words: no tool, no call, no picture?"""
    if not isinstance(message, dict) or message.get("role") not in _SPEAKERS:
        return False
    if message.keys() & {"tool_calls", "function_call", "audio"}:
        return False
    content = message.get("content")
    if isinstance(content, str):
        return True
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(part, dict) and part.get("type") == "text" for part in content)
    )


_SPEAKERS = ("system", "developer", "user", "assistant")
