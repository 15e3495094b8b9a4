"""What a line of a warm-up file asks for: a request, and perhaps the answer to it.

    "How do I reset my password?"                                    a plain prompt
    {"prompt": "…", "model": "m", "system": "…"}                     the same, saying more
    {"prompt": "…", "answer": "…"}                                   its answer too: nobody is asked
    {"model": "m", "messages": […], …}                               a chat request
    {"request": {chat request}, "answer": "…" or {chat.completion}}  the same with its answer
    {"custom_id": …, "method": "POST", "url": …, "body": {…}}        OpenAI Batch, input
    {"custom_id": …, "response": {…}, "error": null}                 OpenAI Batch, output

A request has to be, word for word and parameter for parameter, what the application will send: that
is what an answer is found by. So nothing is added to one, but a model or a system prompt that it
does not name and the command line does.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

CHAT_URLS = ("/v1/chat/completions", "/chat/completions")
LINE_BYTES_MAX = 16 * 1024 * 1024
"""No node takes a larger request."""
CHARS_A_TOKEN = 4
"""About, in English; other languages have fewer."""

Json = Mapping[str, Any]


class BadLine(Exception):  # noqa: N818  a finding about the file
    """A line that cannot be used. The message says why, without quoting it."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What is added to requests that do not say it themselves."""

    model: str | None = None
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One answer that is to be in the cache."""

    request: Json
    answer: Json | str | None = None
    """A `chat.completion`, or its text; None: the upstream is to be asked."""
    name: str = ""
    """The line's own name for it (`custom_id`)."""

    @property
    def digest(self) -> bytes:
        """16 bytes that are equal for lines that want the same."""
        said = json.dumps([self.request, self.answer], sort_keys=True, separators=(",", ":"))
        return blake2b(said.encode(), digest_size=16).digest()

    @property
    def prompt_tokens(self) -> int:
        """How many the prompt has, about."""
        return 1 + sum(_chars(m.get("content")) for m in self.request["messages"]) // CHARS_A_TOKEN

    @property
    def answer_tokens_max(self) -> int | None:
        """How many the answer may have, if the request says."""
        limits = (self.request.get(name) for name in ("max_completion_tokens", "max_tokens"))
        return next((limit for limit in limits if isinstance(limit, int)), None)


class Batch:
    """The input of a finished batch: its requests by `custom_id`, for the output that names them.

    The API takes 50,000 requests in 200 MB at most; they are kept as the bytes that they came as.
    """

    def __init__(self) -> None:
        self._lines: dict[str, bytes] = {}

    def add(self, raw: bytes) -> None:
        """Raises BadLine."""
        name = _text(_object(_json(raw)), "custom_id")
        if name in self._lines:
            raise BadLine("this custom_id is used twice")
        self._lines[name] = raw

    def body(self, name: str) -> Json:
        """Raises BadLine."""
        if name not in self._lines:
            raise BadLine("no request in the batch's input has this custom_id")
        return _batch_body(_object(_json(self._lines[name])))

    def __len__(self) -> int:
        return len(self._lines)


def wanted(raw: bytes, defaults: Defaults, batch: Batch | None) -> Wanted:
    """What a line asks for. `batch`: lines are the output of this batch.

    Raises:
        BadLine: it says nothing that could be asked.
    """
    line = _json(raw)
    if batch is not None:
        return _of_output(_object(line), defaults, batch)
    if isinstance(line, str):
        return Wanted(_of_prompt({"prompt": line}, defaults))
    match _object(line):
        case {"custom_id": _, "response": _} | {"custom_id": _, "error": _}:
            raise BadLine(
                "this is the output of a batch: name the file of its requests with --requests"
            )
        case {"custom_id": name, "body": _} as item:
            return Wanted(_chat(_batch_body(item), defaults), name=str(name))
        case {"request": _} as item:
            _only(item, "request", "answer")
            return Wanted(_chat(_object(item["request"]), defaults), _answer(item))
        case {"prompt": _} as item:
            return Wanted(_of_prompt(item, defaults), _answer(item))
        case item:
            return Wanted(_chat(item, defaults))


def _of_output(item: Json, defaults: Defaults, batch: Batch) -> Wanted:
    name = _text(item, "custom_id")
    response = item.get("response")
    if not isinstance(response, dict):
        error = item.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        raise BadLine(f"the batch has no answer to it: {code or 'no response'}")
    if response.get("status_code") != 200:
        raise BadLine(f"the batch has no answer to it: status {response.get('status_code')}")
    answer = response.get("body")
    if not isinstance(answer, dict):
        raise BadLine("its response has no body")
    return Wanted(_chat(batch.body(name), defaults), answer, name)


def _batch_body(item: Json) -> Json:
    if item.get("url") not in CHAT_URLS:
        raise BadLine(f"only {CHAT_URLS[0]} can be warmed, its url is another")
    if item.get("method", "POST") != "POST":
        raise BadLine("its method is not POST")
    return _object(item.get("body"), "its body is no object")


def _of_prompt(item: Json, defaults: Defaults) -> Json:
    _only(item, "prompt", "model", "system", "answer")
    asked = [{"role": "user", "content": _text(item, "prompt")}]
    if "system" in item:
        asked.insert(0, {"role": "system", "content": _text(item, "system")})
    named = {"model": _text(item, "model")} if "model" in item else {}
    return _chat({**named, "messages": asked}, defaults)


def _chat(request: Json, defaults: Defaults) -> Json:
    """A chat request with what it leaves to the command line."""
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadLine("it is neither a prompt nor a chat request: it has no messages")
    if not all(isinstance(message, dict) for message in messages):
        raise BadLine("its messages are not objects")
    model = request.get("model") or defaults.model
    if not model:
        raise BadLine("it names no model: give one with --model")
    if defaults.system is not None and not _is_instructed(messages):
        messages = [{"role": "system", "content": defaults.system}, *messages]
    return {**request, "model": model, "messages": messages}


def _is_instructed(messages: Sequence[Json]) -> bool:
    return any(message.get("role") in ("system", "developer") for message in messages)


def _answer(item: Json) -> Json | str | None:
    answer = item.get("answer")
    if answer is None or isinstance(answer, dict) or (isinstance(answer, str) and answer):
        return answer
    raise BadLine("its answer is neither text nor a chat completion")


def _only(item: Json, *names: str) -> None:
    if unknown := item.keys() - set(names):
        shown = ", ".join(sorted(unknown)[:3])
        raise BadLine(f"it has fields that are not known here ({shown}): write a chat request")


def _text(item: Json, name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadLine(f"its {name} is not text, or empty")
    return value


def _object(value: Any, otherwise: str = "it is neither text nor an object") -> Json:
    if not isinstance(value, dict):
        raise BadLine(otherwise)
    return value


def _json(raw: bytes) -> Any:
    if len(raw) > LINE_BYTES_MAX:
        raise BadLine(f"it is longer than {LINE_BYTES_MAX} bytes")
    try:
        return json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_constant)
    except UnicodeDecodeError as exc:
        raise BadLine("it is not UTF-8") from exc
    except (ValueError, RecursionError) as exc:
        raise BadLine("it is not JSON; plain text belongs in quotes") from exc


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadLine("a name occurs twice in an object")
    return found


def _constant(_name: str) -> Any:
    raise BadLine("NaN and Infinity are not JSON")


def _chars(content: Any) -> int:
    if isinstance(content, str):
        return len(content)
    if isinstance(content, list):
        return sum(_chars(part.get("text")) for part in content if isinstance(part, dict))
    return 0
