"""What the operator's listener says: JSON that nobody keeps, and errors shaped as the API's."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

NO_STORE: Final = {"cache-control": "no-store"}


def told(document: Any, status: int = 200) -> web.Response:
    return web.json_response(document, status=status, headers=NO_STORE)


def error(
    status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """`message`: whole sentences."""
    said = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    headers = {**NO_STORE, **(headers or {})}
    return web.json_response({"error": said}, status=status, headers=headers)
