"""Apps, database, templates, files."""

from tissueboard.embedded.urls import database_settings

from .env import HOME, ROOT, env, flag, secret_key, server_url, whole

DEBUG = flag("DEBUG", False)
SECRET_KEY = secret_key(HOME)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", "testserver"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

APPS = (
    "accounts",
    "cohorts",
    "intake",
    "slides",
    "assays",
    "model_registry",
    "jobs",
    "pipelines",
    "predictions",
    "retrieval",
    "outcomes",
)
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "django_filters",
    "django_htmx",
    "csp",
    "tissueboard.embedded",
    *(f"tissueboard.{app}" for app in APPS),
    "tissueboard.api",
    "frontend",
]
# Kept at the root of the project so that the source tree of an app holds no generated files.
MIGRATION_MODULES = {app: f"migrations.{app}" for app in APPS}

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "tissueboard.accounts.middleware.RequestContextMiddleware",
    "tissueboard.accounts.middleware.ErrorMiddleware",
]

ROOT_URLCONF = "tissueboard.urls"
FRONTEND_URLCONF = "frontend.urls"
ERROR_VIEWS = tuple(f"frontend.pages.errors.{name}" for name in ("bad_request", "forbidden", "not_found", "server_error"))
WSGI_APPLICATION = "tissueboard.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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

POSTGRES = ("postgres", "postgresql", "psql", "pgsql")
DATABASES = {"default": env.db_url("DATABASE_URL") if server_url("DATABASE_URL", POSTGRES) else database_settings(HOME)}
DATABASES["default"].setdefault("CONN_MAX_AGE", 60)
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
# A prepared statement's generic plan ignores how few rows a user may see (DESIGNS 7).
DATABASES["default"].setdefault("OPTIONS", {}).setdefault("options", "-c plan_cache_mode=force_custom_plan")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = HOME / "staticfiles"
WHITENOISE_USE_FINDERS = True
# Files of slides, maps and weights (ARCHITECTURE, Where bytes live).
STORE_ROOT = HOME / "store"
# Where a person puts weight files that were trained elsewhere: one folder per encoder.
WEIGHTS_ROOT = HOME / "weights"
# Largest file that one browser upload may hold, in bytes.
UPLOAD_MAX_BYTES = whole("UPLOAD_MAX_BYTES", 8 * 2**30)
FILE_UPLOAD_TEMP_DIR = None
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 2**20
CODE_ROOT = ROOT

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "tissueboard.accounts.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "tissueboard.api.pagination.Pages",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "EXCEPTION_HANDLER": "tissueboard.api.exceptions.handle",
    "PAGE_SIZE": 50,
    "DEFAULT_THROTTLE_RATES": {"token": "20/min"},
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tissueboard",
    "VERSION": "1",
    "DESCRIPTION": "Cohorts, slides, virtual maps, similar cases and survival. Research use only.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", "INFO")},
}
