"""The runtime of a process: database threads, the in-process cache, jobs, child processes and health checks."""

from puffer.runtime.atomic_file import open_atomic
from puffer.runtime.backoff import backoff
from puffer.runtime.child_process import ChildProcess
from puffer.runtime.event_loop import in_thread_if_large, run_on_server_loop, server_runs
from puffer.runtime.jobs import (
    Job,
    LeaseLost,
    claim,
    claim_many,
    database_now,
    due,
    in_seconds,
    unleased,
    with_heartbeat,
)
from puffer.runtime.live_cache import LiveCache, LiveModel, invalidate
from puffer.runtime.periodic import Periodic, delete_batch
from puffer.runtime.sqlite_scrub import scrub_deleted_rows
from puffer.runtime.storage import is_disk_full, is_storage_full

__all__ = [
    "ChildProcess",
    "Job",
    "LeaseLost",
    "LiveCache",
    "LiveModel",
    "Periodic",
    "backoff",
    "claim",
    "claim_many",
    "database_now",
    "delete_batch",
    "due",
    "in_seconds",
    "in_thread_if_large",
    "invalidate",
    "is_disk_full",
    "is_storage_full",
    "open_atomic",
    "run_on_server_loop",
    "scrub_deleted_rows",
    "server_runs",
    "unleased",
    "with_heartbeat",
]
