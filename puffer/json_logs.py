"""Log lines as JSON objects, one per line, with the id of their request."""

import logging
from datetime import UTC, datetime

import orjson

from puffer.request_id import request_id

# Every other attribute of a record was added by `extra=`.
PLAIN = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "request", "color_message"}


class JsonFormatter(logging.Formatter):
    """A formatter that writes a record, with its `extra` values, as one line of JSON."""

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
