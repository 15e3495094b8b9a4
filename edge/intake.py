"""From bytes to a `Query`: what can be said of a request before memory is asked.

Most traffic repeats itself, heads even more than bodies, so both steps remember what they found: a
head that was admitted, and the query of a small body under an admitted head. What is remembered is
a function of the bytes alone, so it can be forgotten at any time and never be wrong.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from edge import status
from edge.admission.keys import Caller, KeyRing, Use
from edge.ask import Query
from edge.cors import Cors
from edge.dialects import Dialect
from edge.documents import Document
from edge.errors import ClientError, body_too_large
from edge.negative import digest
from edge.policy import Allowed, Mode, allowed, reach_of, regions_of, route
from edge.request import LARGE_BODY_BYTES, Fields, Head, Request, Response
from edge.rules import Rules
from index.entry import SHARED, Scope, Timestamp
from index.prompt import exact_key

MEMO_BODY_BYTES_MAX = 4096
MEMO_ENTRIES = 1024
ALLOWED_POST = "POST, OPTIONS"
ALLOWED_GET = "GET, HEAD, OPTIONS"

_UPSTREAM_HEADERS = ("x-portkey-custom-host", "helicone-target-url", "x-upstream-url", "api-base")


class ModelList:
    """The answer to `GET /v1/models`, kept ready by the node."""

    def __init__(self) -> None:
        self.all = _models_document({"object": "list", "data": []})

    def put(self, models: Sequence[Mapping[str, Any]]) -> None:
        self.all = _models_document({"object": "list", "data": list(models)})

    def find(self, name: str) -> Document | None:
        models = json.loads(self.all.body)["data"]
        return next((_models_document(one) for one in models if one["id"] == name), None)


class Intake:
    """Admits heads, and reads bodies."""

    def __init__(
        self,
        rules: Rules,
        dialects: Sequence[Dialect],
        keys: KeyRing,
        cors: Cors,
        secret: bytes,
        services: Collection[str] = (),
        public: Mapping[str, Callable[[], Document]] | None = None,
        *,
        wall: Callable[[], Timestamp],
    ) -> None:
        """`services` are further paths that take JSON by POST, from whoever may send prompts;
        `public` are documents for everybody, without a key."""
        self.models = ModelList()
        self._rules = rules
        self._dialects = {path: dialect for dialect in dialects for path in dialect.paths}
        self._taking = frozenset(self._dialects) | frozenset(services)
        self._public = public or {}
        self._keys = keys
        self._cors = cors
        self._secret = secret
        self._wall = wall
        self._edition = keys.edition
        self._admitted_memo = lru_cache(MEMO_ENTRIES)(self._admit_prompt)
        self._query_memo = lru_cache(MEMO_ENTRIES)(self._query)
        self._allowed = lru_cache(MEMO_ENTRIES)(lambda head, mode: allowed(head.headers, mode))
        self._route = lru_cache(256)(
            lambda model: route(model, rules.routes, rules.cache, keys=len(keys) > 0)
        )

    def asks_for_key(self, head: Head) -> bool:
        """Whether it is answered only with a right key, if there are any."""
        keyless = head.method == "OPTIONS" or head.path in self._public
        return len(self._keys) > 0 and not keyless

    def dialect(self, head: Head | None) -> Dialect:
        """The one that this request speaks; for what speaks none, the first."""
        dialect = self._dialects.get(head.path) if head else None
        return dialect or next(iter(self._dialects.values()))

    def cors(self, head: Head | None) -> Fields:
        return self._cors.fields(head.headers if head else {})

    # The head.

    def admit(self, head: Head) -> Response | None:
        """None for a prompt whose body may be read; the answer to what has none.

        Raises:
            EdgeError: what is to be refused without reading the body.
        """
        if head.method == "POST" and head.path in self._taking:
            self._admitted(head)
            return None
        public = self._public.get(head.path)
        known = head.path in self._taking or public or _model_path(head.path) is not None
        if head.method in ("TRACE", "CONNECT") and not known:  # nowhere, whatever the path says
            raise _not_allowed(head.method, "GET, HEAD, POST, OPTIONS")
        methods = self._methods(head.path)
        if head.method == "OPTIONS":
            return self._options(head, methods)
        if head.method not in methods.split(", "):
            raise _not_allowed(head.method, methods)
        if public is not None:
            return public().answer(head.headers, self.cors(head))
        self._caller(head).may("models")
        return self._models(head)

    def _admitted(self, head: Head) -> Caller:
        self._keep_up()
        caller = self._admitted_memo(head)
        return caller if self._wall() < caller.expires_at else self._admit_prompt(head)

    def _caller(self, head: Head) -> Caller:
        return self._keys.caller(head.headers.get("authorization"), self._wall())

    def _keep_up(self) -> None:
        """Forget what was found with other keys than there are now."""
        if self._edition != self._keys.edition:
            self._edition = self._keys.edition
            for memo in (self._admitted_memo, self._query_memo, self._route):
                memo.cache_clear()

    def _admit_prompt(self, head: Head) -> Caller:
        caller = self._caller(head)
        use: Use = "prompts" if head.path in self._dialects else "feedback"
        caller.may(use)
        _check_body_fields(head.headers, self._rules.http.body_bytes_max)
        _refuse_upstream_headers(head.headers)
        return caller

    def scope(self, head: Head) -> Scope:
        """Whose answers a request may read, once it was admitted."""
        return self._admitted(head).scope

    def tenant(self, head: Head) -> str:
        """Whose request it is, once it was admitted; empty: anybody's."""
        return self._admitted(head).tenant

    def _methods(self, path: str) -> str:
        if path in self._taking:
            return ALLOWED_POST
        if path in self._public or _model_path(path) is not None:
            return ALLOWED_GET
        raise ClientError(
            "There is nothing here. Prompts go to POST /v1/chat/completions.",
            status=404,
            code="not_found",
        )

    def _options(self, head: Head, methods: str) -> Response:
        if "access-control-request-method" in head.headers:
            cors = self._cors.preflight(head.headers, methods)
        else:
            cors = self._cors.fields(head.headers)
        return Response(204, (("allow", methods), *cors))

    def _models(self, head: Head) -> Response:
        name = _model_path(head.path)
        found = self.models.find(name) if name else self.models.all
        if found is None:
            raise ClientError(
                f"The model {name!r} does not exist on this node.",
                status=404,
                code="model_not_found",
                param="model",
            )
        return found.answer(head.headers, self.cors(head))

    # The body.

    def read(self, request: Request) -> Query:
        """What an admitted request asks for. Raises ClientError, Unauthorized."""
        self._keep_up()
        if len(request.body) > MEMO_BODY_BYTES_MAX:
            return self._query(request.head, request.body)
        return self._query_memo(request.head, request.body)

    def _query(self, head: Head, body: bytes) -> Query:
        return self._query_of(head, body, self._admitted(head))

    def order(self, body: bytes, tenant: str | None) -> Query:
        """The same for what the operator asks in the name of a tenant. Raises ClientError.

        It counts for nothing among what tenants share, as none of them asked.
        """
        dialect = next(iter(self._dialects.values()))
        head = Head("POST", dialect.paths[0], "", "", {})
        return replace(self._query_of(head, body, self._keys.tenant(tenant)), shared_key=None)

    def _query_of(self, head: Head, body: bytes, caller: Caller) -> Query:
        dialect = self._dialects[head.path]
        call = dialect.parse(body)
        scope, rules = caller.scope, self._route(call.prompt.model)
        wishes = self._allowed(head, rules.mode)
        if call.bypass:
            only = wishes.only_if_cached
            wishes = Allowed(Mode.OFF, lookup=False, store=False, only_if_cached=only)
        reach = reach_of(rules.reach, self._rules.region, caller.residency)
        if reach is None:
            wishes = replace(wishes, store=False)
        return Query(
            head=head,
            body=body,
            dialect=dialect,
            call=call,
            scope=scope,
            caller=caller,
            key=exact_key(call.prompt, scope, self._secret),
            allowed=wishes,
            route=rules,
            answer_bytes_max=self._rules.cache.answer_bytes_max,
            cors=self._cors.fields(head.headers),
            reach=reach or (),
            regions=regions_of(rules, caller.regions),
            shared_key=exact_key(call.prompt, SHARED, self._secret)
            if rules.shared and scope != SHARED
            else None,
            digest=digest(body) if len(body) > LARGE_BODY_BYTES else b"",
        )


def _models_document(models: Mapping[str, Any]) -> Document:
    fields: Fields = (status.JSON, ("cache-control", "private, max-age=60"))
    return Document(fields, json.dumps(models, separators=(",", ":")).encode())


def _not_allowed(method: str, methods: str) -> ClientError:
    return ClientError(
        f"{method} is not allowed here. Allowed: {methods}.",
        status=405,
        code="method_not_allowed",
        fields=(("allow", methods),),
    )


def _check_body_fields(headers: Mapping[str, str], bytes_max: int) -> None:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ClientError(
            "Send the prompt as Content-Type: application/json.",
            status=415,
            code="unsupported_media_type",
            fields=(("accept", "application/json"),),
        )
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ClientError(
            "Compressed request bodies are not taken. Send it without Content-Encoding.",
            status=415,
            code="unsupported_content_encoding",
            fields=(("accept-encoding", "identity"),),
        )
    if headers.get("expect", "100-continue").strip().lower() != "100-continue":
        raise ClientError("The only Expect known is 100-continue.", status=417)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        raise ClientError("Content-Length must be a number of bytes.")
    if int(length[:20]) > bytes_max:
        raise body_too_large(bytes_max)


def _refuse_upstream_headers(headers: Mapping[str, str]) -> None:
    for name in _UPSTREAM_HEADERS:
        if name in headers:
            raise ClientError(
                f"The header {name} names an upstream. Which one answers is the operator's choice.",
                code="unknown_parameter",
                param=name,
            )


def _model_path(path: str) -> str | None:
    """The model named by a `/v1/models` path, "" for the list, None for other paths."""
    for prefix in ("/v1/models", "/models"):
        if path == prefix:
            return ""
        if path.startswith(f"{prefix}/"):
            return unquote(path[len(prefix) + 1 :])  # SDKs send the slash of a name as %2F
    return None
