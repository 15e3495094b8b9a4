"""OpenAI chat completions: `POST /v1/chat/completions`, JSON and `stream: true`.

https://platform.openai.com/docs/api-reference/chat
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from edge import json_body
from edge.dialects import Assembly, Call
from edge.dialects.events import DONE, Event, write
from edge.errors import ClientError, EdgeError, UpstreamError
from index.prompt import Prompt, effective

TRANSPORT = frozenset({"stream", "stream_options"})
"""Parameters that say how an answer travels, not what it is."""

COMPLETE = frozenset({"stop", "tool_calls", "function_call"})
"""Finish reasons of an answer that the model ended itself, unlike `length` or `content_filter`."""

_NAMES_AN_UPSTREAM = re.compile(
    r"(^|_)(api_base|base_url|api_key|api_host|api_url|custom_host|target_url|azure_endpoint"
    r"|azure_ad_token|aws_access_key_id|aws_secret_access_key|aws_session_token|extra_headers)$"
)
"""A client that could name a host would be sent the operator's key (LiteLLM CVE-2024-6587)."""

_PIECE = re.compile(r"\s*\S+\s?", re.DOTALL)
_PIECE_CHARS = 24


class OpenAiChat:
    """The dialect of `chat.completion` and `chat.completion.chunk` objects."""

    operation = "chat.completions"
    paths: Sequence[str] = ("/v1/chat/completions", "/chat/completions")
    upstream_path = "/chat/completions"

    def __init__(self, ignored: Collection[str] = (), cacheable_temperature: float = 2.0) -> None:
        """`ignored` parameters are left out of the key; above the temperature nothing is cached."""
        self._ignored = TRANSPORT | frozenset(ignored)
        self._cacheable_temperature = cacheable_temperature

    def parse(self, body: bytes) -> Call:
        payload = json_body.read_object(body)
        _refuse_upstream_names(payload)
        model = payload.get("model")
        if not isinstance(model, str) or not model:
            raise _missing("model", "the name of a model; GET /v1/models lists them")
        _check_messages(payload.get("messages"))
        stream = _flag(payload, "stream")
        options = payload.get("stream_options") or {}
        if not isinstance(options, dict):
            raise _wrong("stream_options", "an object")
        canonical = json_body.canonical(effective(payload, self._ignored), len(body))
        return Call(
            prompt=Prompt(self.operation, model, canonical),
            stream=stream,
            wants_usage=options.get("include_usage") is True,
            bypass=self._bypass(payload),
            answer_tokens_max=_answer_tokens_max(payload),
        )

    def _bypass(self, payload: dict[str, Any]) -> str | None:
        temperature = payload.get("temperature")
        hot = isinstance(temperature, int | float) and temperature > self._cacheable_temperature
        return "temperature" if hot else None

    def request(self, model: str, text: str) -> bytes:
        messages = [{"role": "user", "content": text}]
        return _dumps({"model": model, "messages": messages, "temperature": 0}).encode()

    def upstream_body(self, body: bytes, model: str, stream: bool, usage: bool) -> bytes:
        payload = json_body.read_object(body)
        payload["model"] = model
        if stream and usage:
            options = payload.get("stream_options") or {}
            payload["stream_options"] = {**options, "include_usage": True}
        return json_body.write(payload, len(body))

    def check(self, answer: dict[str, Any]) -> None:
        if answer.get("error"):
            raise in_band_error(answer["error"])
        choices = answer.get("choices")
        if not isinstance(choices, list) or not all(map(_is_choice, choices)):
            raise UpstreamError("The upstream's answer is not a chat completion.")

    def unfit(self, answer: dict[str, Any]) -> str | None:
        if not answer["choices"]:
            return "no-choices"
        for choice in answer["choices"]:
            reason = choice.get("finish_reason")
            if not isinstance(reason, str) or reason not in COMPLETE:
                return "finish-reason"
            message = choice["message"]
            if message.get("refusal"):
                return "refusal"
            if not (message.get("content") or message.keys() & {"tool_calls", "function_call"}):
                return "empty"
        return None

    def words(self, answer: dict[str, Any]) -> str:
        contents = (choice["message"].get("content") for choice in answer["choices"])
        return "\n".join(text for text in contents if isinstance(text, str))

    def tokens(self, answer: dict[str, Any]) -> int:
        usage = answer.get("usage")
        return _count(usage.get("total_tokens")) if isinstance(usage, dict) else 0

    def usage(self, answer: dict[str, Any]) -> tuple[int, int]:
        usage = answer.get("usage")
        if not isinstance(usage, dict):
            return 0, 0
        return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))

    def written(self, model: str, words: str, at: float) -> bytes:
        message = {"role": "assistant", "content": words, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        named = blake2b(f"{model}\n{words}".encode(), digest_size=12).hexdigest()
        answer = {
            "id": f"chatcmpl-{named}",
            "object": "chat.completion",
            "created": int(at),
            "model": model,
            "choices": [choice],
        }
        return _dumps(answer).encode()

    def generated_at(self, answer: dict[str, Any]) -> float | None:
        created = answer.get("created")
        if isinstance(created, bool) or not isinstance(created, int | float):
            return None
        return float(created) if 0 < created < 1e11 else None

    def assembly(self) -> Assembly:
        return ChatAssembly()

    def live(self, event: Event, wants_usage: bool) -> bytes | None:
        if wants_usage or event == DONE or '"usage"' not in event.data:
            return write(event)
        chunk = json.loads(event.data)
        if "usage" not in chunk:  # the word is in the model's text
            return write(event)
        if not chunk.get("choices"):
            return None
        del chunk["usage"]
        # As ASCII: half an emoji, escaped as it came, is whole again with the next event.
        return write(Event(json.dumps(chunk, separators=(",", ":"))))

    def replay(self, body: bytes, wants_usage: bool) -> bytes:
        answer = json.loads(body)
        frame = {k: v for k, v in answer.items() if k not in ("choices", "usage", "object")}
        frame = {**frame, "object": "chat.completion.chunk"}
        unused = {"usage": None} if wants_usage else {}
        chunks = [
            {**frame, "choices": [part], **unused}
            for choice in answer["choices"]
            for part in _parts(choice)
        ]
        if wants_usage:
            chunks.append({**frame, "choices": [], "usage": answer.get("usage")})
        return b"".join(write(Event(_dumps(chunk))) for chunk in chunks) + write(DONE)

    def error_body(self, error: EdgeError, advice: Mapping[str, Any]) -> bytes:
        return _dumps(_error(error, advice)).encode()

    def error_event(self, error: EdgeError) -> bytes:
        return write(Event(_dumps(_error(error, {}))))


class ChatAssembly:
    """Folds `chat.completion.chunk` events into the `chat.completion` that they spell."""

    def __init__(self) -> None:
        self.speaks = False
        self._frame: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usage: Any = None
        self._forgetful = False

    def feed(self, event: Event) -> None:
        if event == DONE:
            return
        try:
            chunk = json.loads(event.data)
        except (ValueError, RecursionError) as exc:
            raise UpstreamError("The upstream sent an event that is not JSON.") from exc
        if not isinstance(chunk, dict):
            raise UpstreamError("The upstream sent an event that is not an object.")
        if chunk.get("error"):
            raise in_band_error(chunk["error"])
        self._usage = chunk.get("usage") or self._usage
        for name, value in chunk.items():
            if name not in ("choices", "usage") and value is not None:
                self._frame[name] = value
        parts = chunk.get("choices") or []
        if not isinstance(parts, list) or not all(map(_is_part, parts)):
            raise UpstreamError("The upstream sent a choice that makes no sense.")
        for part in parts:
            self._fold(part)
        self.speaks = self.speaks or any(map(_says, parts))

    def _fold(self, part: dict[str, Any]) -> None:
        index = part.get("index", 0)
        choice = self._choices.setdefault(index, {"index": index, "message": {}})
        if not self._forgetful:
            merge(choice["message"], part.get("delta") or {})
        if part.get("logprobs") and not self._forgetful:
            merge(choice.setdefault("logprobs", {}), part["logprobs"])
        for name, value in part.items():
            if name not in ("index", "delta", "message", "logprobs") and value is not None:
                choice[name] = value

    @property
    def finished(self) -> bool:
        return bool(self._choices) and all("finish_reason" in c for c in self._choices.values())

    def forget(self) -> None:
        self._forgetful = True
        for choice in self._choices.values():
            choice["message"], choice["logprobs"] = {}, None

    def body(self) -> bytes:
        choices = [_choice(_joined(self._choices[index])) for index in sorted(self._choices)]
        answer = {**self._frame, "object": "chat.completion", "choices": choices}
        if self._usage is not None:
            answer["usage"] = self._usage
        return _dumps(answer).encode()


class _Text:
    """A text that grows. Joined once: adding each token to all before it would copy them again."""

    __slots__ = ("pieces",)

    def __init__(self, *pieces: str) -> None:
        self.pieces = list(pieces)


def _joined(value: Any) -> Any:
    match value:
        case _Text():
            return "".join(value.pieces)
        case dict():
            return {name: _joined(inner) for name, inner in value.items()}
        case list():
            return [_joined(inner) for inner in value]
        case _:
            return value


def merge(whole: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add a delta to what came before: texts grow, lists grow (by `index` where there is one)."""
    for name, value in delta.items():
        old = whole.get(name)
        if old is None or value is None:
            if name not in whole or value is not None:
                whole[name] = _indexed([], value) if isinstance(value, list) else value
        elif isinstance(value, str) and name not in ("role", "id", "type"):
            if isinstance(old, _Text):
                old.pieces.append(value)
            else:
                whole[name] = _Text(old, value) if isinstance(old, str) else value
        elif isinstance(old, list) and isinstance(value, list):
            whole[name] = _indexed(old, value)
        elif isinstance(old, dict) and isinstance(value, dict):
            merge(old, value)
        else:
            whole[name] = value


def _indexed(items: list[Any], added: list[Any]) -> list[Any]:
    for item in added:
        index = item.get("index") if isinstance(item, dict) else None
        same = None if index is None else next((o for o in items if _has(o, index)), None)
        if same is not None:
            merge(same, item)
        else:
            items.append(dict(item) if isinstance(item, dict) else item)
    return items


def _has(item: Any, index: Any) -> bool:
    return isinstance(item, dict) and item.get("index") == index


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    """A finished choice in the shape of the JSON form: tool calls there carry no `index`."""
    message = {"role": "assistant", "content": None, **choice["message"]}
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [{k: v for k, v in c.items() if k != "index"} for c in calls]
    return {**choice, "message": message, "logprobs": choice.get("logprobs")}


def _parts(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of one stored choice: role, content by pieces, what else it holds, the end."""
    index, message = choice.get("index", 0), choice["message"]
    content = message.get("content")
    first = None if content is None else ""
    deltas: list[dict[str, Any]] = [{"role": message.get("role", "assistant"), "content": first}]
    deltas += [{k: message[k]} for k in _BEFORE_CONTENT if message.get(k)]
    if isinstance(content, str):
        deltas += [{"content": piece} for piece in _pieces(content)]
    elif content is not None:
        deltas.append({"content": content})
    sent = ("role", "content", *_BEFORE_CONTENT)
    rest = {k: v for k, v in message.items() if k not in sent and v is not None}
    if calls := rest.get("tool_calls"):
        rest["tool_calls"] = [{"index": at, **call} for at, call in enumerate(calls)]
    if rest:
        deltas.append(rest)
    parts: list[dict[str, Any]] = [
        {"index": index, "delta": delta, "finish_reason": None} for delta in deltas
    ]
    if choice.get("logprobs"):
        parts[-1]["logprobs"] = choice["logprobs"]
    known = ("index", "message", "logprobs", "finish_reason")
    extra = {k: v for k, v in choice.items() if k not in known}
    end = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason"), **extra}
    return [*parts, end]


_BEFORE_CONTENT = ("reasoning_content", "reasoning")
"""What models think before they speak, as DeepSeek and vLLM name it. Clients show it at once."""


def _pieces(text: str) -> list[str]:
    """`text` in pieces of whole words: enough to read as a stream, few enough to be cheap."""
    pieces: list[str] = []
    for word in _PIECE.findall(text) or ([text] if text else []):
        if pieces and len(pieces[-1]) + len(word) <= _PIECE_CHARS:
            pieces[-1] += word
        else:
            pieces.append(word)
    lost = len(text) - sum(map(len, pieces))  # whitespace at the very end
    return [*pieces, text[len(text) - lost :]] if lost else pieces


def _is_choice(choice: Any) -> bool:
    """Has it the shape of a choice, as far as we read it?"""
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        return False
    calls = choice["message"].get("tool_calls") or []
    return isinstance(calls, list) and all(isinstance(call, dict) for call in calls)


def _is_part(part: Any) -> bool:
    """The same for a choice of a chunk."""
    if not isinstance(part, dict) or not isinstance(part.get("index", 0), int):
        return False
    delta, logprobs = part.get("delta") or {}, part.get("logprobs") or {}
    if not isinstance(delta, dict) or not isinstance(logprobs, dict):
        return False
    calls = delta.get("tool_calls") or []
    return isinstance(calls, list) and all(isinstance(call, dict) for call in calls)


def _says(part: dict[str, Any]) -> bool:
    """Is there more in it than a role? Some servers send that before they begin to compute."""
    delta = part.get("delta") or {}
    return bool(part.get("finish_reason")) or any(delta[name] for name in delta if name != "role")


def in_band_error(error: Any) -> ClientError | UpstreamError:
    """An error object that came with status 200, as the status that it should have had."""
    fields = error if isinstance(error, dict) else {"message": str(error)}
    statuses = [str(fields.get(name)) for name in ("status", "status_code", "code")]
    status = next((int(text) for text in statuses if text in _STATUSES), 0)
    named = {"rate_limit": 429, "overloaded": 503, "insufficient_quota": 429}
    kind = f"{fields.get('type')} {fields.get('code')}"
    status = status or next((named[word] for word in named if word in kind), 502)
    if status in (400, 404, 413, 422):  # another upstream would say the same
        return ClientError(f"{fields.get('message')}", status=status)
    return UpstreamError(
        f"The upstream answered with an error: {fields.get('message')}",
        status=status,
        code="rate_limit_exceeded" if status == 429 else None,
    )


_STATUSES = {str(status) for status in (400, 404, 408, 413, 422, 429, 500, 502, 503, 504, 529)}


def _refuse_upstream_names(payload: dict[str, Any]) -> None:
    for name in payload:
        if _NAMES_AN_UPSTREAM.search(name.lower().replace("-", "_")):
            raise ClientError(
                f"The parameter {name!r} names an upstream or its key. Which upstream answers is "
                "the operator's choice: leave it out.",
                code="unknown_parameter",
                param=name,
            )


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise _missing("messages", "a list with at least one message")
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _wrong(f"messages[{at}]", 'an object with a "role"')


def _flag(payload: dict[str, Any], name: str) -> bool:
    value = payload.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, "true or false")
    return bool(value)


def _missing(name: str, what: str) -> ClientError:
    return ClientError(
        f"The parameter {name!r} is required: {what}.",
        code="missing_required_parameter",
        param=name,
    )


def _wrong(name: str, what: str) -> ClientError:
    return ClientError(f"{name} must be {what}.", code="invalid_type", param=name)


def _answer_tokens_max(payload: dict[str, Any]) -> int | None:
    most = _count(payload.get("max_completion_tokens")) or _count(payload.get("max_tokens"))
    return most * (_count(payload.get("n")) or 1) or None


def _count(tokens: Any) -> int:
    return tokens if isinstance(tokens, int) and 0 < tokens < 1 << 40 else 0


def _error(error: EdgeError, advice: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
            **advice,
        }
    }


def _dumps(document: Any) -> str:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    if text.isascii():
        return text
    # A stream may cut an emoji between two events: its surrogates meet again only here.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
