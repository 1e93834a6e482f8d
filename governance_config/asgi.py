"""How does the server meet the network? The ASGI application that uvicorn runs."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "governance_config.settings")

application = get_asgi_application()
