"""The server's own settings, with the routes that it is compared with, and limits that nobody reaches."""

from governance_config.settings import *  # noqa: F403
from governance_config.settings import ALLOWED_HOSTS, MIDDLEWARE, REST_FRAMEWORK

ROOT_URLCONF = "bench.urls"
ALLOWED_HOSTS = [*ALLOWED_HOSTS, "127.0.0.1"]
MIDDLEWARE = ["bench.urls.StatementsMiddleware", *MIDDLEWARE]
# Limits are asked as ever; they are not what is measured here.
REST_FRAMEWORK = {
    **REST_FRAMEWORK,
    "DEFAULT_THROTTLE_RATES": dict.fromkeys(REST_FRAMEWORK.get("DEFAULT_THROTTLE_RATES", {}), "1000000/s"),
}
