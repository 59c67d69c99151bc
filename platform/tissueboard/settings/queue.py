"""Celery on Redis, and the limits of jobs. Redis is only a hint to work: the Job table is the truth."""

from tissueboard.embedded.urls import client_url, redis_url

from .env import HOME, env, seconds, server_url, whole

CELERY_BROKER_URL = server_url("REDIS_URL", ("redis", "rediss", "redis+socket")) or redis_url(HOME)
# The same server as redis-py names it.
REDIS_CLIENT_URL = client_url(CELERY_BROKER_URL)

# Limits of one attempt in seconds; a kind of job may set lower ones. jobs/checks.py refuses to start unless visibility > hard > soft.
JOBS_HARD_SECONDS = whole("JOBS_HARD_SECONDS", 6 * 3600)
JOBS_SOFT_SECONDS = whole("JOBS_SOFT_SECONDS", 6 * 3600 - 120)
# A running job says every so often that it lives; after so much silence its worker counts as dead.
JOBS_HEARTBEAT_SECONDS = seconds("JOBS_HEARTBEAT_SECONDS", 30.0)
JOBS_SILENT_SECONDS = seconds("JOBS_SILENT_SECONDS", 95.0)
# A queued job without a message in Redis this long after its dispatch is sent again.
JOBS_REDISPATCH_SECONDS = seconds("JOBS_REDISPATCH_SECONDS", 30.0)
# A job that waited this long is given up.
JOBS_EXPIRE_SECONDS = seconds("JOBS_EXPIRE_SECONDS", 7 * 86400.0)
JOBS_SWEEP_SECONDS = seconds("JOBS_SWEEP_SECONDS", 10.0)
JOBS_WORK_ROOT = HOME / "work"
# Runs over whole cohorts: how many jobs of a run may wait in a queue per process that serves it, how often runs are fed, and how much
# of the disk they leave free.
RUNS_WINDOW = whole("RUNS_WINDOW", 3)
RUNS_FEED_SECONDS = seconds("RUNS_FEED_SECONDS", 5.0)
RUNS_MIN_FREE_BYTES = whole("RUNS_MIN_FREE_BYTES", 2 * 2**30)
# Modules with further job kinds, beside each app's handlers.py (the tests register theirs here).
JOBS_EXTRA_HANDLERS = env.list("JOBS_EXTRA_HANDLERS", default=[])

CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": whole("JOBS_VISIBILITY_SECONDS", 12 * 3600),
    # kombu looks for lost messages only about every 100 s unless told.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    # A request that cannot reach Redis goes on at once; the sweeper sends its message later. (The worker's own patience is set below.)
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.2,
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "io"
CELERY_TASK_TIME_LIMIT = JOBS_HARD_SECONDS
CELERY_TASK_SOFT_TIME_LIMIT = JOBS_SOFT_SECONDS
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    # `expires` keeps sweeps from piling up while no worker listens.
    "sweep": {"task": "tissueboard.jobs.sweep", "schedule": JOBS_SWEEP_SECONDS, "options": {"queue": "io", "expires": JOBS_SWEEP_SECONDS}},
    "feed runs": {
        "task": "tissueboard.pipelines.feed",
        "schedule": RUNS_FEED_SECONDS,
        "options": {"queue": "io", "expires": RUNS_FEED_SECONDS},
    },
}
CELERY_BEAT_SCHEDULE_FILENAME = str(HOME / "beat-schedule")
