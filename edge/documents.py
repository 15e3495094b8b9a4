"""What is served to GET as it lies there: a body, its entity tag, and whether the client has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from edge.request import Fields, Response


@dataclass(frozen=True, slots=True)
class Document:
    fields: Fields
    body: bytes
    etag: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "etag", etag(self.body))

    def answer(self, headers: Mapping[str, str], cors: Fields) -> Response:
        """200, or 304 for who names its tag (RFC 9110, 13.1.2 and 15.4.5)."""
        fields = (*self.fields, ("etag", self.etag), *cors)
        if not _named(self.etag, headers.get("if-none-match", "")):
            return Response(200, fields, self.body)
        return Response(304, tuple(one for one in fields if one[0] != "content-type"))


def etag(body: bytes) -> str:
    """A strong entity tag: other bytes, another tag."""
    return f'"{blake2b(body, digest_size=16).hexdigest()}"'


def _named(tag: str, condition: str) -> bool:
    """Tags of ours hold no comma. The comparison is the weak one."""
    names = (name.strip().removeprefix("W/") for name in condition.split(","))
    return condition.strip() == "*" or tag in names
