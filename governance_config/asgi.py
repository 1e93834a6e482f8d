"""How does the server meet the network? The ASGI application that uvicorn runs: HTTP, WebSockets, and its life."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "governance_config.settings")
# A server keeps its connections; a command takes one, and should fail at once where there is none.
os.environ.setdefault("GOVERNANCE_POOL", "1")

# WhiteNoise streams files by a plain iterator, which Django reads in a thread: right, and not worth a line each.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

http = get_asgi_application()

# What knows models comes after the apps are loaded.
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path, re_path  # noqa: E402

from audit.consumers import ChangesConsumer, Door, refuse_route  # noqa: E402
from audit.relay import ensure_relay, stop_relay  # noqa: E402

sockets = URLRouter([path("ws/v1/config/changes", Door(ChangesConsumer.as_asgi())), re_path("", refuse_route)])
served = ProtocolTypeRouter({"http": http, "websocket": sockets})


async def application(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
    """Serve requests and sockets; a server that tells of its start has the relay run from then to its end."""
    if scope["type"] == "lifespan":
        await live(receive, send)
    else:
        await served(scope, receive, send)


async def live(receive: Callable[[], Awaitable[Any]], send: Any) -> None:
    """Start the relay with the server, which need not wait for the database, and stop it with the server."""
    starting: asyncio.Task[Any] | None = None
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            starting = asyncio.create_task(ensure_relay())
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            if starting is not None:
                starting.cancel()
            await stop_relay()
            await send({"type": "lifespan.shutdown.complete"})
            return


# What was imported stays: looking through it for garbage would stop a request for a tenth of a second now and then.
gc.collect()
gc.freeze()
