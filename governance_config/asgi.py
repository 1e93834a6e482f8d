"""How does the server meet the network? The ASGI application that uvicorn runs."""

from __future__ import annotations

import os
import warnings

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "governance_config.settings")

# WhiteNoise streams files by a plain iterator, which Django reads in a thread: right, and not worth a line for each file.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

application = get_asgi_application()
