"""How does the server meet the network? The ASGI application that uvicorn runs."""

from __future__ import annotations

import gc
import os
import warnings

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "governance_config.settings")
# A server keeps its connections; a command takes one, and should fail at once where there is none.
os.environ.setdefault("GOVERNANCE_POOL", "1")

# WhiteNoise streams files by a plain iterator, which Django reads in a thread: right, and not worth a line each.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

application = get_asgi_application()

# What was imported stays: looking through it for garbage would stop a request for a tenth of a second now and then.
gc.collect()
gc.freeze()
