"""Where the library's log goes unless a caller takes it: to `logging`."""

from __future__ import annotations

import logging

_LEVELS = {"verbose": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING,
           "error": logging.ERROR}
_LOGGER = logging.getLogger("headrace")


def log_to_logging(level: str, line: str) -> None:
    """Gives a line to the logger "headrace"."""
    _LOGGER.log(_LEVELS[level], "%s", line)
