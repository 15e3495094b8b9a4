"""The request and the answer that everyone exchanges: sizes of a short chat."""

import json
from dataclasses import dataclass
from pathlib import Path

PATH = "/v1/chat/completions"
REQUEST_BYTES = 321
ANSWER_BYTES = 1400
PROMPTS = 5_000
"""More than any memo of the node remembers, so that each is read and keyed anew."""

HEADERS = {
    "Host": "localhost",
    "User-Agent": "bench/1",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Content-Type": "application/json",
    "Authorization": "Bearer sk-test-0123456789",
    "X-Stainless-Lang": "python",
    "Content-Length": str(REQUEST_BYTES),
}
"""Eight, as h3load sends over HTTP/3."""


def chat(text: str) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": "bench", "messages": messages}).encode()


def request() -> bytes:
    """One prompt, `REQUEST_BYTES` long."""
    text = "Tell me what an edge cache does for prompts, and where it would do harm. "
    body = chat(text)
    return chat(text + "x" * (REQUEST_BYTES - len(body)))


def requests(count: int) -> list[bytes]:
    """Prompts of the same length that differ."""
    first = request()
    return [first.replace(b"x" * 8, f"{number:08}".encode(), 1) for number in range(count)]


def answer(number: int = 1) -> bytes:
    """A whole `chat.completion`, `ANSWER_BYTES` long."""

    def document(text: str) -> bytes:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
        return json.dumps(
            {
                "id": f"chatcmpl-{number:08}",
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": "bench",
                "choices": [choice],
                "usage": {"prompt_tokens": 9, "completion_tokens": 300, "total_tokens": 309},
            }
        ).encode()

    return document("a" * (ANSWER_BYTES - len(document(""))))


@dataclass(frozen=True, slots=True)
class Scratch:
    """Files that servers and load generators are given."""

    directory: Path

    @property
    def request(self) -> Path:
        return self.directory / "request.json"

    @property
    def requests(self) -> Path:
        """`PROMPTS` requests, one a line."""
        return self.directory / "requests.jsonl"

    @property
    def answer(self) -> Path:
        return self.directory / "answer.json"

    @property
    def certificate(self) -> Path:
        return self.directory / "self-signed.pem"

    @property
    def key(self) -> Path:
        return self.directory / "self-signed.key"

    @property
    def models(self) -> Path:
        """The exported encoder: made once, before anything is measured."""
        return self.directory / "models"

    @property
    def tools(self) -> Path:
        return self.directory / "tools"

    def folder(self, name: str) -> Path:
        made = self.directory / name
        made.mkdir(exist_ok=True)
        return made


def lay_out(directory: Path) -> Scratch:
    import datetime as dt

    from edge.identity import self_signed

    scratch = Scratch(directory)
    self_signed(directory, dt.datetime.now(dt.UTC))
    scratch.request.write_bytes(request())
    scratch.requests.write_bytes(b"\n".join(requests(PROMPTS)) + b"\n")
    scratch.answer.write_bytes(answer())
    scratch.tools.mkdir()
    return scratch
