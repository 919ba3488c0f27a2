"""All settings, read from the environment and from `.env`. README.md has the table of variables."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import environ
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

from puffer import __version__
from puffer.first_start import ENV_FILE

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"  # for the files that puffer writes: the SQLite database, stored images
VAR_DIR.mkdir(mode=0o700, exist_ok=True)

env = environ.Env()
if ENV_FILE.exists():
    env.read_env(ENV_FILE)

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="insecure-and-for-debugging-only" if DEBUG else environ.Env.NOTSET)
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is empty.")
PUBLIC_URL = env.str("PUBLIC_URL", default="").rstrip("/")
PUBLIC = urlsplit(PUBLIC_URL)
if PUBLIC_URL and not (PUBLIC.scheme in ("http", "https") and PUBLIC.hostname):
    raise ImproperlyConfigured("PUBLIC_URL must be an address such as https://ai.example.com.")
# The path below which a proxy serves puffer, such as /ai. The proxy may remove it from the requests, or leave it.
SCRIPT_NAME = env.str("FORCE_SCRIPT_NAME", default=PUBLIC.path).strip("/")
FORCE_SCRIPT_NAME = f"/{SCRIPT_NAME}" if SCRIPT_NAME else None
ROOT_PATH = f"{FORCE_SCRIPT_NAME or ''}/"
if PUBLIC_URL and not PUBLIC.path:
    PUBLIC_URL += FORCE_SCRIPT_NAME or ""
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", *filter(None, [PUBLIC.hostname])])
CSRF_TRUSTED_ORIGINS = [f"{PUBLIC.scheme}://{PUBLIC.netloc}"] if PUBLIC_URL else []
TRUSTED_PROXY_COUNT = env.int("TRUSTED_PROXY_COUNT", default=0)

# The API and its keys

PUFFER_API_ENABLED = env.bool("PUFFER_API_ENABLED", default=True)
PUFFER_API_KEY = env.str("PUFFER_API_KEY", default="")
PUFFER_API_KEY_IN_QUERY = env.bool("PUFFER_API_KEY_IN_QUERY", default=True)
PUFFER_ENCRYPTION_KEYS = env.list("PUFFER_ENCRYPTION_KEYS", default=[])
MAX_REQUEST_BYTES = env.int("MAX_REQUEST_BYTES", default=10 * 1024 * 1024)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_REQUEST_BYTES
CLIENT_TIMEOUT = env.int(
    "CLIENT_TIMEOUT", default=20
)  # seconds for the head of a request; its body must arrive steadily
MAX_CONNECTIONS = env.int("MAX_CONNECTIONS", default=1000)  # of each server process
# Requests without credentials, of one network in each server process; 0: any number. Files: scripts, styles and images.
PUBLIC_REQUESTS_PER_MINUTE = env.int("PUBLIC_REQUESTS_PER_MINUTE", default=600)
PUBLIC_FILES_PER_MINUTE = env.int("PUBLIC_FILES_PER_MINUTE", default=3000)
MAX_UPLOAD_BYTES = env.int("MAX_UPLOAD_BYTES", default=25 * 1024 * 1024)  # of a file for a collection

# Providers: credentials in the environment apply where nothing is saved in the admin

PROVIDER_ENVIRONMENT = {
    "openai": {"api_key": env.str("OPENAI_API_KEY", ""), "base_url": env.str("OPENAI_BASE_URL", "")},
    "azure": {
        "api_key": env.str("AZURE_OPENAI_API_KEY", ""),
        "base_url": env.str("AZURE_OPENAI_ENDPOINT", ""),
        "api_version": env.str("AZURE_OPENAI_API_VERSION", ""),
    },
    "google": {
        "api_key": env.str("GOOGLE_API_KEY", "") or env.str("GEMINI_API_KEY", ""),
        "base_url": env.str("GOOGLE_BASE_URL", ""),
    },
    "openrouter": {"api_key": env.str("OPENROUTER_API_KEY", ""), "base_url": env.str("OPENROUTER_BASE_URL", "")},
    "claude": {"api_key": env.str("ANTHROPIC_API_KEY", ""), "base_url": env.str("ANTHROPIC_BASE_URL", "")},
    "deepseek": {"api_key": env.str("DEEPSEEK_API_KEY", ""), "base_url": env.str("DEEPSEEK_BASE_URL", "")},
    "xai": {"api_key": env.str("XAI_API_KEY", ""), "base_url": env.str("XAI_BASE_URL", "")},
    "ollama": {"base_url": env.str("OLLAMA_BASE_URL", "")},
    # Set by `serve` when it starts the bundled model.
    "local": {"base_url": env.str("LOCAL_MODEL_URL", ""), "api_key": env.str("LOCAL_MODEL_TOKEN", "")},
}
OLLAMA_CONTEXT_LENGTH = env.int("OLLAMA_CONTEXT_LENGTH", default=8192)  # tokens; the server's own variable
VECTOR_STORE_ENVIRONMENT = {
    "pinecone": {"api_key": env.str("PINECONE_API_KEY", ""), "base_url": env.str("PINECONE_BASE_URL", "")},
    "qdrant": {"api_key": env.str("QDRANT_API_KEY", ""), "base_url": env.str("QDRANT_URL", "")},
    "chroma": {
        "api_key": env.str("CHROMA_API_KEY", ""),
        "base_url": env.str("CHROMA_URL", ""),
        "tenant": env.str("CHROMA_TENANT", ""),
        "database": env.str("CHROMA_DATABASE", ""),
    },
}
PRIVATE_HOST_ALLOWLIST = env.list("PRIVATE_HOST_ALLOWLIST", default=[])
CONNECT_TIMEOUT = env.float("CONNECT_TIMEOUT", default=5)  # seconds, as the next four
COMPLETION_TIMEOUT = env.float("COMPLETION_TIMEOUT", default=60)  # embeddings too
IMAGE_TIMEOUT = env.float("IMAGE_TIMEOUT", default=180)
STREAM_TIMEOUT = env.float("STREAM_TIMEOUT", default=120)  # of a whole answer; no pause in it over COMPLETION_TIMEOUT
VECTOR_STORE_TIMEOUT = env.float("VECTOR_STORE_TIMEOUT", default=60)  # of a call, retries included
VECTOR_MEMORY_BYTES = env.int("VECTOR_MEMORY_BYTES", default=1024**3)  # of the local store, in each process
MAX_ANSWER_BYTES = env.int("MAX_ANSWER_BYTES", default=25 * 1024 * 1024)
SOURCES_FOLDER = env.str("SOURCES_FOLDER", default="")  # the admin may read folders below it; empty: none
# The defaults of sampling parameters that neither the caller nor the bot sets.
AI_PARAMETERS = env.json(
    "AI_PARAMETERS", default={"temperature": 1.0, "top_p": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0}
)

# Personal data in the log

LOG_RETENTION_DAYS = env.int("LOG_RETENTION_DAYS", default=0)  # after a conversation's last message; 0: forever
IMAGE_RETENTION_DAYS = env.int("IMAGE_RETENTION_DAYS", default=0)  # after an image was generated; 0: forever
ANONYMIZE_IP = env.bool("PUFFER_ANONYMIZE_IP", default=False)
REDACT = env.list("PUFFER_REDACT", default=[])  # kinds of logs/conversations/redaction.py

LOCAL_MODEL = env.bool("LOCAL_MODEL", default=True)  # start the bundled model with `serve`, where it is installed
RUN_WITH_SERVER = ["providers.bundled_model.bundled_model"] if LOCAL_MODEL else []
# Loaded before forking; otherwise every process would load them at its first call of a provider.
LOADED_BEFORE_SERVING = ["openai.resources.chat", "openai.resources.embeddings", "openai.types.chat"]
WORKER_JOBS = [  # each entry runs in a thread of its own, so a job that is listed four times runs in four threads
    *4 * ["logs.webhooks.delivery.run_due"],
    "vectorstores.uploads.queue.run_due",
    *2 * ["vectorstores.refresh.worker.run_due"],
    "vectorstores.stores.local.index_builder.run_due",
    "chatbots.quality.golden.run_due",
    "logs.search.indexer.run_due",
    "logs.conversations.retention.run_due",
    "puffer.security.sign_in_records.run_due",
    "providers.use_cases.image_retention.run_due",
    "chatbots.guards.leftovers.run_due",
]
# Seconds that a server or a worker may hang before its process is replaced, and that a stop may take.
EVENT_LOOP_TIMEOUT = env.float("EVENT_LOOP_TIMEOUT", default=30)
SHUTDOWN_TIMEOUT = env.int("SHUTDOWN_TIMEOUT", default=5 + int(max(COMPLETION_TIMEOUT, STREAM_TIMEOUT, IMAGE_TIMEOUT)))
AT_STARTUP = ["chatbots.conversation.knowledge.load_vectors"]
AT_SHUTDOWN = ["chatbots.guards.limits.finish", "logs.usage.recorder.flush_usage", "providers.registry.close_clients"]

# Django

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "corsheaders",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "simple_history",
    "axes",
    "csp",
    "puffer",
    "logs",
    "providers",
    "vectorstores",
    "chatbots",
]

# For the admin and the other pages. The API has a shorter path of its own: puffer/api/handler.py.
MIDDLEWARE = [
    "puffer.request_id.RequestIdMiddleware",
    "puffer.security.request_validation.RejectNulMiddleware",
    "puffer.security.request_validation.OutOfRangeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "puffer.admin.locale.AdminLocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "puffer.security.second_factor.RequireSecondFactorMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",  # records who saved a version of a chatbot
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

API_MIDDLEWARE = [
    "puffer.api.https.require_https",
    "chatbots.guards.cors.read_widget_bot",
    "corsheaders.middleware.CorsMiddleware",
]

ROOT_URLCONF = "puffer.urls"
ASGI_APPLICATION = "puffer.asgi.application"
APPEND_SLASH = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "puffer" / "templates"],  # some override the templates of unfold, whose app comes first
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'puffer.sqlite3'}")}
DATABASES["default"]["CONN_MAX_AGE"] = env.int("CONN_MAX_AGE", default=60)
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",  # wait for the write lock at BEGIN instead of failing at the first write
        "timeout": 20,
        # After a long reader has gone, the write-ahead log shrinks to the limit again.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;"
        " PRAGMA journal_size_limit=16777216;",
    }
elif DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql":
    raise ImproperlyConfigured(
        "DATABASE_URL must begin with sqlite:/// or postgres://. No other database is supported."
    )
else:
    DATABASES["default"] |= {
        "ENGINE": "puffer.runtime.postgresql",
        "OPTIONS": {
            "connect_timeout": 5,  # seconds
            "tcp_user_timeout": 10_000,  # milliseconds without an answer of the other machine's network
            "keepalives_idle": 10,  # seconds
            "keepalives_interval": 3,
            "keepalives_count": 3,
            **DATABASES["default"].get("OPTIONS", {}),
        },
    }
# Seconds that a server waits for a statement of PostgreSQL; 0: any time. The worker and commands wait for any time.
DATABASE_TIMEOUT = env.float("DATABASE_TIMEOUT", default=15)
MIN_FREE_BYTES = env.int("MIN_FREE_BYTES", default=10 * 1024 * 1024)  # on SQLite's disk; below that nothing is asked
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-us"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True
FORMAT_MODULE_PATH = "puffer.formats"

STATIC_URL = f"{ROOT_PATH}static/"
STATIC_ROOT = env.str("STATIC_ROOT", default=None)  # only for a web server in front that serves them itself
WHITENOISE_USE_FINDERS = True  # serve static files from their apps: no collectstatic before the first start
MEDIA_URL = "/media/"  # below the site's address
MEDIA_ROOT = env.str("MEDIA_ROOT", default=str(VAR_DIR / "media"))

LOGIN_REDIRECT_URL = "admin:index"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_FAILURE_LIMIT = env.int("SIGN_IN_FAILURES", default=5)
AXES_COOLOFF_TIME = timedelta(minutes=env.int("SIGN_IN_LOCK_MINUTES", default=15))
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # otherwise repeated attempts would extend a lockout forever
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_HANDLER = "puffer.security.sign_in.SignInHandler"
AXES_CLIENT_IP_CALLABLE = "puffer.security.sign_in.address"
AXES_LOCKOUT_CALLABLE = "puffer.security.sign_in.locked_out"
AXES_RESET_ON_SUCCESS = True
AXES_ENABLE_ACCESS_FAILURE_LOG = True
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "code", "csrfmiddlewaretoken"]  # not recorded
AXES_ENABLE_ADMIN = False  # puffer/admin/activity.py replaces its pages
AXES_VERBOSE = False

HTTPS = urlsplit(PUBLIC_URL).scheme == "https"
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = ROOT_PATH
REQUIRE_SECOND_FACTOR = env.bool("REQUIRE_SECOND_FACTOR", default=False)
SESSION_ENGINE = "puffer.security.admin_sessions"
SESSION_COOKIE_AGE = env.int("SESSION_HOURS", default=12) * 3600
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
if HTTPS and not FORCE_SCRIPT_NAME:
    # With this prefix, browsers refuse the cookie from plain http, from other hosts of the domain, and for a path.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_SSL_REDIRECT = HTTPS and TRUSTED_PROXY_COUNT > 0  # without a proxy's header, every request looks like http
if HTTPS or TRUSTED_PROXY_COUNT:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CONTENT_SECURITY_POLICY = {
    "EXCLUDE_URL_PREFIXES": ["/wp-json/"],
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, UNSAFE_EVAL],  # the admin's Alpine reads its expressions with eval
        "style-src": [SELF, UNSAFE_INLINE],  # the admin's colors and widths
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "frame-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    },
}
# The domain's owner decides on HSTS for sub-domains and the preload list, not this server.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["puffer.api.renderers.JSONRenderer"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["puffer.api.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["puffer.api.permissions.HasScope"],
    "EXCEPTION_HANDLER": "puffer.api.errors.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "LIST_SERIALIZER_ERRORS_AS_DICT": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "puffer",
    "DESCRIPTION": "Text, images, embeddings and chatbots of many providers through one key.",
    "VERSION": __version__,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/wp-json/aipkit/v1",
}

# chatbots/guards/cors.py decides which sites may read a response.
CORS_URLS_REGEX = r"^/wp-json/"
CORS_EXPOSE_HEADERS = ["X-WP-Total", "X-WP-TotalPages", "Link", "X-Request-ID", "Idempotent-Replayed"]
CORS_ALLOW_METHODS = ["OPTIONS", "GET", "POST", "PUT", "PATCH", "DELETE"]
CORS_ALLOW_HEADERS = [
    "authorization",
    "x-wp-nonce",
    "content-disposition",
    "content-md5",
    "content-type",
    "x-request-id",
    "idempotency-key",
]

UNFOLD = {
    "SITE_TITLE": "puffer",
    "SITE_HEADER": "puffer",
    "SITE_SYMBOL": "forum",
    "SITE_URL": None,  # there is no other site to return to
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("puffer/favicon.svg")},
    ],
    "STYLES": [lambda request: static("puffer/admin.css")],
    "DASHBOARD_CALLBACK": "chatbots.admin.dashboard.dashboard",
    "SHOW_VIEW_ON_SITE": False,
    "LOGIN": {"form": "puffer.security.second_factor.SignInForm"},
    "ACCOUNT": {
        "navigation": [
            {"title": _("Password"), "link": reverse_lazy("admin:password_change")},
            {"title": _("Two-factor authentication"), "link": reverse_lazy("admin:auth_user_second_factor")},
            {"title": _("Your sign-ins"), "link": reverse_lazy("admin:auth_user_own_sessions")},
        ],
    },
    "SIDEBAR": {"navigation": "puffer.admin.navigation.navigation"},
}

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "puffer.json_logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"level": LOG_LEVEL},
        # At INFO and DEBUG, these write URLs and bodies of provider calls, which contain prompts and keys.
        **{name: {"level": "WARNING"} for name in ("httpx2", "httpcore2", "openai", "anthropic", "google_genai")},
        "uvicorn.access": {"level": "CRITICAL"},  # its lines contain the query string, which may contain a key
    },
}
