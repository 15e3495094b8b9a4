"""Whose fault it is, which status it becomes, and what to do about it.

Everything that can go wrong for a request is an `EdgeError`. Foreign errors are translated where
they enter, `from exc`; what is left over is a bug and becomes a 500 in one place, the handler.
"""

from math import ceil
from typing import ClassVar

JITTER = 0.5
"""Were all told the same, all would come back at once."""
RETRY_S_MAX = 86_400


class EdgeError(Exception):
    """An answer that is an error, in the shape of the OpenAI API: message, type, param, code."""

    status: int = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
        fields: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or type(self).status
        self.code = code or type(self).code
        self.param = param
        self.retry_after_s = retry_after_s
        self.fields = fields
        """Header fields that belong to this error, such as `allow`."""


class ClientError(EdgeError):
    """The request is at fault; sent again unchanged it fails again."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"

    by_upstream = False
    """Whether upstreams said so, all that might have been asked."""


class Unauthorized(EdgeError):  # noqa: N818  named as the status is
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"

    reason = ""
    """What was wrong with the key, for the log: whoever sent it is not told."""
    key_id = "-"
    """Of the key, if there was such a one."""


class UpstreamError(EdgeError):
    """The upstream is at fault: 502 when it answered badly, 504 when it did not answer in time."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"

    wait_s: float | None = None
    """When it wants to be asked again, to the millisecond; `retry_after_s` is told to clients."""
    crowded = False
    """Whether it refused because it had as many requests as it takes at a time."""
    connection_lost = False
    """Whether there was no connection, or one that broke: it did no work, or none that counts."""


class Overloaded(EdgeError):  # noqa: N818  a state, and the word operators use
    status = 503
    type = "server_error"
    code = "overloaded"


class OverQuota(EdgeError):  # noqa: N818  a state, and the word operators use
    """A limit of the plan is reached. Asked again at once, it is refused again."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class SourceLimited(OverQuota):
    """The address that it came from may do no more now. The log tells it once a second."""


class Busy(Overloaded):
    """More wait for upstreams than could be served in time."""


class StreamCut(Exception):  # noqa: N818  an end, not a fault of the code that raises it
    """The rest of a stream will never come; what was sent must not look complete."""


def after_s(wait_s: float, draw: float) -> int:
    """What to say in `Retry-After` of a wait: whole seconds, one at least, the wait times 1 to 1.5.
    `draw` is from [0, 1)."""
    return min(max(ceil(wait_s * (1 + JITTER * draw)), 1), RETRY_S_MAX)


def body_too_large(limit: int) -> ClientError:
    return ClientError(
        f"The request body is larger than {limit} bytes, the limit of this node.",
        status=413,
        code="body_too_large",
    )


def body_too_slow() -> ClientError:
    return ClientError("The request body took too long to arrive.", status=408, code="timeout")
