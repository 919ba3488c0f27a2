"""Log lines as JSON: one object a line, with the id of the request they belong to."""

import logging
from datetime import UTC, datetime

import orjson

from puffer.request_id import request_id

# What `extra=` adds is what a plain record does not have.
PLAIN = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "request", "color_message"}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            line["request_id"] = current
        line.update((name, value) for name, value in record.__dict__.items() if name not in PLAIN)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()
