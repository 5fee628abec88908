"""Logs of the replicas: our loggers share Serve's handlers, and a refusal is one line.

Serve logs every exception of a replica as an error with its traceback. A caller's mistake or a full
stage is no error.
"""

from __future__ import annotations

import logging

from pipeline.errors import CapacityError, InputError
from pipeline.serving.tracing import here

OUR_LOGGERS = ("deployments", "pipeline", "cache_store")


class OneLineRefusals(logging.Filter):
    """Removes the traceback from records of refusals and lowers their level."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Logs the error's code only: its message may quote the caller."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, InputError | CapacityError):
            return True
        is_full = isinstance(error, CapacityError)
        record.levelno = logging.WARNING if is_full else logging.INFO
        record.levelname = logging.getLevelName(record.levelno)
        record.msg, record.args = "Request refused: %s (%s).", (error.code, error.param or "-")
        record.exc_info = record.exc_text = None
        return True


class TraceIds(logging.Filter):
    """Adds `trace_id` to records that are made within a traced request; JSON logs have it so."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Of a handler: a logger's filter sees no records of the loggers below it."""
        if trace := here():
            record.trace_id = trace.hex_id
        return True


ONE_LINE_REFUSALS = OneLineRefusals()
TRACE_IDS = TraceIds()


def adopt_serve_logging() -> None:
    """Send our loggers to Serve's handlers (replica log file and driver), request id included.

    Serve's record of a refused request becomes one line; what is logged within a traced request has
    the trace's id.
    """
    serve_logger = logging.getLogger("ray.serve")
    serve_logger.addFilter(ONE_LINE_REFUSALS)
    for handler in serve_logger.handlers:
        handler.addFilter(TRACE_IDS)
    for name in OUR_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = list(serve_logger.handlers)
        logger.setLevel(serve_logger.level or logging.INFO)
        logger.propagate = False
