"""TLS for HTTP/1.1, and a word to whoever speaks HTTP in clear text to its port.

OpenSSL knows such a request by its first bytes, and the handshake fails over it. All that a TLS
transport does then is to close; but while a handshake goes on, it sends what that has left for the
other side and waits for more. So the answer is left there, as if it did. Whoever reads it to its
end closes the connection, as it says; whoever does not has the time of a handshake.
"""

import ssl
from collections.abc import Callable
from typing import Any

_IN_CLEAR_TEXT = ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST")
"""What OpenSSL calls them: GET, HEAD, POST, PUT; CONNECT."""


class ServerTls(ssl.SSLContext):
    in_clear_text: Callable[[], bytes] | None = None
    """Makes the answer to a request in clear text, whole."""

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any
    ) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *args, **kwargs)
        assert isinstance(made, _Connection)
        made.outgoing, made.answer = outgoing, self.in_clear_text
        return made


_do_handshake = ssl.SSLObject.do_handshake


class _Connection(ssl.SSLObject):
    outgoing: ssl.MemoryBIO
    answer: Callable[[], bytes] | None

    def do_handshake(self) -> None:
        try:
            _do_handshake(self)
        except ssl.SSLWantReadError:  # as in any handshake: no more is looked at
            raise
        except ssl.SSLError as exc:
            if exc.reason not in _IN_CLEAR_TEXT or self.answer is None:
                raise
            self.outgoing.write(self.answer())
            raise ssl.SSLWantReadError from exc


ServerTls.sslobject_class = _Connection
