"""How is the server set up? One file, read from the environment; without any variable it runs from `./var` on SQLite.

Variables: GOVERNANCE_HOME, DATABASE_URL, REDIS_URL, PORT, GOVERNANCE_PRODUCTION, GOVERNANCE_HOSTS, GOVERNANCE_ORIGINS,
GOVERNANCE_SECRET_KEY, GOVERNANCE_ENCRYPTION_KEYS, GOVERNANCE_DEBUG, GOVERNANCE_LOG_LEVEL, GOVERNANCE_LOG_FORMAT,
GOVERNANCE_ACCESS_LOG, GOVERNANCE_METRICS_TOKEN, GOVERNANCE_REVIEW_ROOTS, GOVERNANCE_RATE_READ, GOVERNANCE_RATE_WRITE,
GOVERNANCE_RATE_BULK, GOVERNANCE_RATE_AUTH, GOVERNANCE_LOCKOUT_FAILURES, GOVERNANCE_LOCKOUT_MINUTES,
GOVERNANCE_SUPERUSERS_APPROVE_OWN, GOVERNANCE_FLAG_DEPENDENT_APPROVERS, GOVERNANCE_WAKE_UP, EMAIL_URL, EMAIL_FROM,
GOVERNANCE_URL, GOVERNANCE_WEBHOOK_PRIVATE, GOVERNANCE_WEBHOOK_HTTP. `docs/operations.md` explains each.
"""

from __future__ import annotations

import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from audit.key_files import read_or_make

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("GOVERNANCE_HOME") or BASE_DIR / "var").resolve()
VERSION = "0.1.0"


def read_flag(name: str) -> bool:
    """Whether an environment variable says yes."""
    value = os.environ.get(name, "").strip().lower()
    if value in ("", "0", "no", "false", "off"):
        return False
    if value in ("1", "yes", "true", "on"):
        return True
    raise ImproperlyConfigured(f"{name} must be 1 or 0, not {value!r}.")


def read_list(name: str) -> list[str]:
    """The comma-separated entries of an environment variable."""
    return [entry.strip() for entry in os.environ.get(name, "").split(",") if entry.strip()]


def read_number(name: str, default: int, *, least: int = 0) -> int:
    """The whole number in an environment variable."""
    value = os.environ.get(name, "").strip() or str(default)
    if not value.isdecimal() or not value.isascii() or not least <= int(value) <= 1_000_000_000:
        raise ImproperlyConfigured(f"{name} must be a whole number, {least} or more, not {value!r}.")
    return int(value)


def make_private(path: Path) -> None:
    """Create `path` if it is not there, for its owner's eyes only."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise ImproperlyConfigured(f"{path} cannot be written: {error.strerror}.") from error


def read_secret(name: str, file_name: str) -> str:
    """A secret from the environment, else from a file in GOVERNANCE_HOME that only its owner may read."""
    if os.environ.get(name):
        return os.environ[name]
    path = HOME / file_name
    try:
        return read_or_make(path, lambda: secrets.token_urlsafe(64)).strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{path} cannot be used: {error.strerror}.") from error


try:
    HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
except OSError as error:
    raise ImproperlyConfigured(f"GOVERNANCE_HOME: {HOME} cannot be made: {error.strerror}.") from error
PRODUCTION = read_flag("GOVERNANCE_PRODUCTION")
DEBUG = read_flag("GOVERNANCE_DEBUG") and not PRODUCTION
SECRET_KEY = read_secret("GOVERNANCE_SECRET_KEY", "secret.key")
# Secrets in the configuration are encrypted with the first of these keys, else with the first one of the file, which is
# made when there is a secret to encrypt.
ENCRYPTION_KEYS = read_list("GOVERNANCE_ENCRYPTION_KEYS")
ENCRYPTION_KEY_FILE = HOME / "encryption.keys"
# Whoever sees a debug page sees no values of variables: secrets are among them.
DEFAULT_EXCEPTION_REPORTER_FILTER = "governance_config.error_pages.QuietFilter"
ALLOWED_HOSTS = read_list("GOVERNANCE_HOSTS") or ([] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = read_list("GOVERNANCE_ORIGINS")
if PRODUCTION and not ALLOWED_HOSTS:
    raise ImproperlyConfigured("GOVERNANCE_PRODUCTION needs GOVERNANCE_HOSTS: the host names that clients use.")

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "guardian",
    "axes",
    "simple_history",
    "django_jsonform",
    "django_tasks",
    "django_tasks_db",
    "audit",
    "plugins",
    "rules",
    "personas",
    "overrides",
    "reviews",
    # Last: the roles can be synced when every other app has its permissions.
    "governance_config",
]

MIDDLEWARE = [
    "audit.middleware.OriginMiddleware",
    "governance_config.observation.ObservationMiddleware",
    "governance_config.middleware.ContentSecurityPolicyMiddleware",
    "governance_config.middleware.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "governance_config.middleware.SignInMiddleware",
    # Last: it answers in place of a view that let somebody sign in who is locked out.
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "governance_config.urls"
ASGI_APPLICATION = "governance_config.asgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LOCK_TIMEOUT = 10  # seconds that a change waits for another one


def read_database() -> dict[str, Any]:
    """Settings of the database in DATABASE_URL, or of the embedded SQLite file."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        make_private(HOME / "governance.sqlite3")
        url = f"sqlite:///{HOME / 'governance.sqlite3'}"
    if not url.startswith(("sqlite://", "postgres://", "postgresql://")):
        raise ImproperlyConfigured("DATABASE_URL must begin with sqlite:// or postgresql://.")
    database = dict(dj_database_url.parse(url))
    options = database.setdefault("OPTIONS", {})
    if database["ENGINE"].endswith("sqlite3"):
        # IMMEDIATE: a transaction that will write takes the lock when it begins, where the time-out applies. WAL lets
        # readers go on meanwhile. Hence no ATOMIC_REQUESTS: every atomic block is a writer's.
        options["transaction_mode"] = "IMMEDIATE"
        options["timeout"] = LOCK_TIMEOUT * 2
        options["init_command"] = (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-20000"
        )
        # A file, because threads of an in-memory database do not wait for each other.
        database["TEST"] = {"NAME": str(HOME / "test.sqlite3")}
    else:
        options.setdefault("options", f"-c lock_timeout={LOCK_TIMEOUT}s -c idle_in_transaction_session_timeout=60s")
        if read_flag("GOVERNANCE_POOL"):
            options.setdefault("pool", {"min_size": 1, "max_size": 10, "timeout": LOCK_TIMEOUT})
    return database


DATABASES = {"default": read_database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = os.environ.get("REDIS_URL", "")
if REDIS_URL and not REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
    raise ImproperlyConfigured("REDIS_URL must begin with redis://, rediss:// or unix://.")
if REDIS_URL:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": REDIS_URL,
            "KEY_PREFIX": "governance-plain",
            "OPTIONS": {
                "serializer": "audit.cache.PlainSerializer",
                "socket_connect_timeout": 0.5,
                "socket_timeout": 1,
            },
        }
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

WAKE_UP = os.environ.get("GOVERNANCE_WAKE_UP") or "database"
"""What tells a process of commits: the database, or Redis where a pooler keeps sessions from listening."""
if WAKE_UP not in ("database", "redis"):
    raise ImproperlyConfigured(f"GOVERNANCE_WAKE_UP must be database or redis, not {WAKE_UP!r}.")
if WAKE_UP == "redis" and not REDIS_URL:
    raise ImproperlyConfigured("GOVERNANCE_WAKE_UP=redis needs REDIS_URL.")

# Reviews that a person starts run in the process of `manage.py db_worker`, which finds them in the database.
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["default"]}}
REVIEW_ROOTS = [Path(entry).resolve() for entry in read_list("GOVERNANCE_REVIEW_ROOTS")] or [HOME / "codebases"]
"""Folders below which a review may be started from admin and API; commands review whatever they can read."""

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "guardian.backends.ObjectPermissionBackend",
]
# A name is locked for the address that guesses, whichever door it tries: others with that name still get in.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = read_number("GOVERNANCE_LOCKOUT_FAILURES", 10, least=1)
AXES_COOLOFF_TIME = timedelta(minutes=read_number("GOVERNANCE_LOCKOUT_MINUTES", 15, least=1))
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # nor does its row grow while somebody goes on guessing
AXES_CLIENT_IP_CALLABLE = "audit.middleware.read_address"
AXES_CLIENT_STR_CALLABLE = "governance_config.lockout.describe_client"
AXES_LOCKOUT_CALLABLE = "governance_config.lockout.answer_lockout"
AXES_DISABLE_ACCESS_LOG = True  # who signed in is told by `last_login`; a table of it would grow for ever
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
RATES = {
    "read": read_number("GOVERNANCE_RATE_READ", 6000),
    "write": read_number("GOVERNANCE_RATE_WRITE", 1200),
    "bulk": read_number("GOVERNANCE_RATE_BULK", 120),
    "auth": read_number("GOVERNANCE_RATE_AUTH", 30),
}
"""Requests a minute by scope, of a user or else of an address; 0 is no limit."""

# Who is a second person. Strict unless an installation says otherwise.
SUPERUSERS_APPROVE_OWN = read_flag("GOVERNANCE_SUPERUSERS_APPROVE_OWN")
FLAG_DEPENDENT_APPROVERS = read_flag("GOVERNANCE_FLAG_DEPENDENT_APPROVERS")
"""Whether accounts that a requester made or empowered may approve with a warning; else they are refused."""

WEBHOOK_PRIVATE = read_flag("GOVERNANCE_WEBHOOK_PRIVATE")
"""Whether webhooks may lead to this machine and its networks; else only to addresses of the Internet."""
WEBHOOK_HTTP = read_flag("GOVERNANCE_WEBHOOK_HTTP")
"""Whether webhooks may be told without TLS."""

ANONYMOUS_USER_NAME = None
GUARDIAN_MONKEY_PATCH_USER = False
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# Whether TLS is begun or there from the start, and the usual port.
MAIL_SCHEMES = {"smtp": (False, False, 25), "smtp+tls": (True, False, 587), "smtps": (False, True, 465)}


def read_mail() -> dict[str, Any]:
    """Django's settings of the mail server in EMAIL_URL; without it none, and no mail is sent."""
    url = os.environ.get("EMAIL_URL", "")
    if not url:
        return {}
    if url == "console:":
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    try:
        parts = urlsplit(url)
        tls, ssl, port = MAIL_SCHEMES[parts.scheme]
        return {
            "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "EMAIL_HOST": parts.hostname or "localhost",
            "EMAIL_PORT": parts.port or port,
            "EMAIL_HOST_USER": unquote(parts.username or ""),
            "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
            "EMAIL_USE_TLS": tls,
            "EMAIL_USE_SSL": ssl,
        }
    except (KeyError, ValueError) as error:
        # Not the address itself: it may hold a password.
        raise ImproperlyConfigured(
            "EMAIL_URL must be smtp://host:port, smtp+tls://user:password@host, smtps://… or console:."
        ) from error


SENDS_MAIL = bool(read_mail())
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
EMAIL_TIMEOUT = 10  # seconds
DEFAULT_FROM_EMAIL = os.environ.get("EMAIL_FROM") or "governance@localhost"
PUBLIC_URL = os.environ.get("GOVERNANCE_URL", "").rstrip("/")
"""Where people reach this server, for links in mails; none: mails have no link."""
globals().update(read_mail())

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = HOME / "static"
STATIC_ROOT.mkdir(exist_ok=True)
# Without a collected folder the files are served from where the packages keep them: `make run` needs no build step.
WHITENOISE_USE_FINDERS = next(STATIC_ROOT.iterdir(), None) is None
WHITENOISE_AUTOREFRESH = False

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
if PRODUCTION:
    SECURE_SSL_REDIRECT = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "governance_config.rest.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_THROTTLE_CLASSES": ["governance_config.throttling.ScopeThrottle"],
    "DEFAULT_PARSER_CLASSES": ["governance_config.rest.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "governance_config.rest.JSONNegotiation",
    "DEFAULT_PAGINATION_CLASS": "audit.listing.SkipLimitPagination",
    "DEFAULT_SCHEMA_CLASS": "governance_config.schema.GovernanceSchema",
    "DEFAULT_METADATA_CLASS": None,
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "governance_config.rest.handle_exception",
    "COERCE_DECIMAL_TO_STRING": False,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
CSRF_FAILURE_VIEW = "governance_config.rest.csrf_failure"
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_TTL": timedelta(days=30), "AUTO_REFRESH": False}
SPECTACULAR_SETTINGS = {
    "TITLE": "Code-review governance",
    "DESCRIPTION": "Rules, plugins, personas and overrides of code reviews: read, changed, recorded.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "docExpansion": "none", "persistAuthorization": False},
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "governance_config.schema.complete_document",
    ],
    "ENUM_NAME_OVERRIDES": {
        "SeverityEnum": "rules.choices.Severity",
        "RuleTypeEnum": "rules.choices.RuleType",
        "RuleStatusEnum": "rules.choices.RuleStatus",
        "OverrideStatusEnum": "overrides.choices.OverrideStatus",
        "EnforcementEnum": "overrides.choices.Enforcement",
        "ReviewStatusEnum": "reviews.choices.SessionStatus",
        "IssueStateEnum": "reviews.choices.IssueState",
        "PresenceEnum": "reviews.choices.Presence",
        "TriageEnum": "reviews.choices.Triage",
        "PromptStatusEnum": "reviews.choices.PromptStatus",
        "PluginStatusEnum": "plugins.models.PluginHealth.Status",
    },
}

LOG_LEVEL = (os.environ.get("GOVERNANCE_LOG_LEVEL") or "INFO").upper()
if LOG_LEVEL not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
    raise ImproperlyConfigured("GOVERNANCE_LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL.")
LOG_FORMAT = (os.environ.get("GOVERNANCE_LOG_FORMAT") or "line").lower()
if LOG_FORMAT not in ("line", "json"):
    raise ImproperlyConfigured("GOVERNANCE_LOG_FORMAT must be line or json.")
ACCESS_LOG = read_flag("GOVERNANCE_ACCESS_LOG") if os.environ.get("GOVERNANCE_ACCESS_LOG") else LOG_FORMAT == "json"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request": {"()": "audit.log.RequestIdFilter"}},
    "formatters": {
        "line": {
            "()": "audit.log.LineFormatter",
            "format": "%(asctime)s %(levelname)s %(request_id)s %(name)s %(message)s",
        },
        "json": {"()": "audit.log.JsonFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["request"]}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": ["stderr"], "level": LOG_LEVEL, "propagate": False},
        # What a client asked wrongly is told to the client, and is in the access log.
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "governance.access": {"level": "INFO" if ACCESS_LOG else "CRITICAL"},
        "psycopg.pool": {"level": "ERROR"},
        # Failures and locks are warnings; each step on the way to them is not worth a line.
        "axes": {"level": "WARNING"},
        "uvicorn": {"handlers": ["stderr"], "level": LOG_LEVEL, "propagate": False},
        # It would write queries, in which there may be tokens.
        "uvicorn.access": {"handlers": [], "level": "CRITICAL", "propagate": False},
    },
}

METRICS_TOKEN = os.environ.get("GOVERNANCE_METRICS_TOKEN", "")
if METRICS_TOKEN and len(METRICS_TOKEN) < 16:
    raise ImproperlyConfigured("GOVERNANCE_METRICS_TOKEN must have 16 characters or more.")

from governance_config.theme import UNFOLD  # noqa: E402, F401
