"""The LLM APIs this node speaks. One file each; nothing else in the node knows their shapes.

events       server-sent events, as bytes in and out
openai_chat  POST /v1/chat/completions
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edge.dialects.events import Event
from edge.errors import EdgeError
from index.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Call:
    """A request as its dialect reads it."""

    prompt: Prompt
    stream: bool
    wants_usage: bool
    """Did the client ask for a usage event at the end of its stream?"""
    bypass: str | None
    """Why this request may not be answered from memory nor kept, if so."""
    answer_tokens_max: int | None = None
    """How long the client lets the answer become, all choices together."""


class Assembly(Protocol):
    """Folds the events of one stream into the JSON answer that they spell."""

    def feed(self, event: Event) -> None:
        """Raises what the event tells of, or UpstreamError when it makes no sense."""

    speaks: bool
    """Has anything of the answer come? Who will speak is nothing yet."""

    @property
    def finished(self) -> bool:
        """Has every choice ended?"""

    def forget(self) -> None:
        """Nobody will ask for the body: only see to it that the answer ends as it should."""

    def body(self) -> bytes:
        """The JSON answer, once finished."""


class Dialect(Protocol):
    """One API: how its requests are read, and how its answers are written."""

    operation: str
    paths: Sequence[str]
    """Where clients post, with and without `/v1`."""
    upstream_path: str
    """Where upstreams take it, after their base URL."""

    def parse(self, body: bytes) -> Call:
        """Raises ClientError."""

    def request(self, model: str, text: str) -> bytes:
        """A request of the node's own, with one question."""

    def upstream_body(self, body: bytes, model: str, stream: bool, usage: bool) -> bytes:
        """What an upstream is sent, which calls the model `model`; `usage` asks a stream for its
        usage event."""

    def check(self, answer: dict[str, Any]) -> None:
        """Raises what a JSON answer with status 200 tells of, or UpstreamError when it is none."""

    def unfit(self, answer: dict[str, Any]) -> str | None:
        """Why a complete JSON answer may not be stored; None if it may."""

    def words(self, answer: dict[str, Any]) -> str:
        """What a complete JSON answer says, as text."""

    def tokens(self, answer: dict[str, Any]) -> int:
        """What the upstream says it counted, prompt and answer together; 0 if it does not."""

    def usage(self, answer: dict[str, Any]) -> tuple[int, int]:
        """The same, of the prompt and of the answer; 0 for what it does not say."""

    def written(self, model: str, words: str, at: float) -> bytes:
        """A JSON answer that says these words, as if it had been generated then."""

    def generated_at(self, answer: dict[str, Any]) -> float | None:
        """When a JSON answer was generated, if it says, in seconds since the epoch."""

    def assembly(self) -> Assembly: ...

    def live(self, event: Event, wants_usage: bool) -> bytes | None:
        """An upstream's event as this client is to see it; None to leave it out."""

    def replay(self, body: bytes, wants_usage: bool) -> bytes:
        """The whole event stream of a stored JSON answer, framed as it was when live."""

    def error_body(self, error: EdgeError, advice: Mapping[str, Any]) -> bytes:
        """`advice` are members beside those of the API; clients that do not know them pass them
        over."""

    def error_event(self, error: EdgeError) -> bytes: ...
