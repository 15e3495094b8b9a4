"""A request reduced to what may change its answer.

Three things come out of a request body: the *exact key* (everything in it, and who may share the
answer), the *partition* (the same without the last user text), and that last text, which alone is
ever compared by meaning. Unknown parameters are part of both keys: what we do
not know may change the answer, so it must be equal (security finding A5).

The keys are BLAKE2b keyed with a secret of the fleet, so that knowing a prompt is not enough to ask
whether somebody's answer to it is stored.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from index import conversation, eligibility
from index.eligibility import PromptClass
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

_NO_OVERRIDES: Final[Mapping[str, PromptClass]] = {}


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


@dataclass(frozen=True, slots=True)
class Routed:
    """How a prompt may be answered from memory, and why."""

    cls: PromptClass
    reason: str
    """Why it is in its class, or what else is to be counted about it; "" for nothing."""
    question: Question | None
    """In the partition of everything but the last user text; None if meaning plays no part."""
    alone: Question | None
    """The same text in the partition without earlier turns, if they are proven not to matter."""
    time_bound: bool
    """Whether it asks about now, so that its answer ages quickly."""

    @property
    def asked(self) -> Question | None:
        """Where to look up and to store by meaning: in the widest partition that is safe."""
        return self.alone or self.question


def route(
    prompt: Prompt,
    scope: Scope,
    secret: bytes,
    overrides: Mapping[str, PromptClass] = _NO_OVERRIDES,
) -> Routed:
    """What class this prompt is of, and its questions. Never raises.

    `overrides` are the operator's, from `eligibility.check_overrides`. A thread-scoped prompt that
    has no earlier turns leans on what was never said: it is matched exactly only.
    """
    request = json.loads(prompt.canonical)
    turns = _turns(request)
    cls, reason, time_bound = _classified(request, turns, overrides)
    if cls in (PromptClass.BYPASS, PromptClass.EXACT_ONLY) or turns.last is None:
        return Routed(cls, reason, None, None, time_bound)
    last = turns.last

    def asked(messages: Sequence[Any], *names: str) -> Question:
        kept = {**request, "messages": messages}
        frame = json.dumps(kept, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        parts = (scope, prompt.operation, frame, *names)
        return Question(PartitionKey(_digest(secret, b"partition", *parts)), last)

    whole = asked(turns.framed)
    if not turns.earlier:
        return Routed(cls, reason, whole, None, time_bound)
    instructed = len(turns.unthreaded) > 1
    needed = conversation.needed(last, turns.said, turns.replies, instructed=instructed)
    if cls != PromptClass.SEMANTIC or needed is None:
        return Routed(PromptClass.THREAD_SCOPED, reason, whole, None, time_bound)
    alone = asked(turns.unthreaded, *([needed] if needed else []))
    return Routed(cls, reason, whole, alone, time_bound)


def _classified(
    request: Mapping[str, Any], turns: "_Turns", overrides: Mapping[str, PromptClass]
) -> tuple[PromptClass, str, bool]:
    reasons = [*_of_parameters(request), *turns.reasons]
    if turns.last is not None:
        reasons += eligibility.reasons(turns.last)
    if eligibility.tells_a_secret("\n".join(turns.said)):
        reasons.append("secret")
    if request.get("user"):  # the partition is that user's own
        reasons = [reason for reason in reasons if reason != "personal"]
    cls, reason = eligibility.classify(reasons, overrides)
    leans_on_nothing = cls == PromptClass.THREAD_SCOPED and not turns.earlier
    if leans_on_nothing or (cls != PromptClass.BYPASS and not turns.framed):
        cls = PromptClass.EXACT_ONLY  # the latter whatever the operator says: there is no text
    return cls, reason, "time-bound" in reasons


def _digest(secret: bytes, *parts: bytes | str) -> bytes:
    digest = blake2b(key=secret, digest_size=KEY_BYTES)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        # Lengths first: ("ab", "c") and ("a", "bc") must not meet.
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()


def _of_parameters(request: Mapping[str, Any]) -> list[str]:
    found = []
    for name, reason in _EXACT_ONLY:
        value = request.get(name)
        if value in (None, False, [], ""):  # but {} says something: search the web, as you please
            continue
        if not (name == "response_format" and value == {"type": "text"}):
            found.append(reason)
    return found if request.get("n", 1) == 1 else [*found, "n"]


@dataclass(frozen=True, slots=True)
class _Turns:
    """The messages of a request, told apart."""

    last: str | None
    """The last user text; None if the turn is not plain text."""
    said: tuple[str, ...] = ()
    """What the user said before, oldest first."""
    replies: tuple[str, ...] = ()
    """What the assistant said before."""
    earlier: bool = False
    """Whether anybody said anything before."""
    framed: tuple[Any, ...] = ()
    """All messages, the last text blanked."""
    unthreaded: tuple[Any, ...] = ()
    """The same without what was said before."""
    reasons: tuple[str, ...] = ()


def _turns(request: Mapping[str, Any]) -> _Turns:
    messages = request.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {}
    text = _text(last.get("content")) if isinstance(last, dict) else None
    if not isinstance(messages, list) or not all(map(_is_plain, messages)):
        every = messages if isinstance(messages, list) else []
        by_agent = any(map(_is_agents, every))
        return _Turns(
            text, _said(every[:-1], "user"), reasons=("tools" if by_agent else "no-text",)
        )
    blank = _blanked(last)
    if last.get("role") != "user" or blank is None:
        return _Turns(text, reasons=("no-text",))
    frame = [message for message in messages[:-1] if message["role"] in _INSTRUCTING]
    earlier = [message for message in messages[:-1] if message["role"] not in _INSTRUCTING]
    return _Turns(
        text,
        _said(earlier, "user"),
        _said(earlier, "assistant"),
        bool(earlier),
        (*messages[:-1], blank),
        (*frame, blank),
    )


def _said(messages: Sequence[Any], role: str) -> tuple[str, ...]:
    """What the one of this role says in these messages."""
    theirs = (m for m in messages if isinstance(m, dict) and m.get("role") == role)
    return tuple(_text(message.get("content")) or "" for message in theirs)


def _blanked(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """The message without its text; None if it has more than one."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": None}
    if not isinstance(content, list) or len(content) != 1:
        return None
    if not isinstance(content[0].get("text"), str):
        return None
    return {**message, "content": [{**content[0], "text": None}]}


def _is_agents(message: Any) -> bool:
    if not isinstance(message, dict):
        return False
    return message.get("role") in ("tool", "function") or bool(
        message.keys() & {"tool_calls", "function_call"}
    )


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


_INSTRUCTING = ("system", "developer")
_SPEAKERS = (*_INSTRUCTING, "user", "assistant")
