"""How a message becomes a line of the log: text for people, or a JSON object for programs."""

import logging
from datetime import UTC, datetime
from typing import Any, Literal

Format = Literal["text", "json"]

_OF_A_STREAM = "stream %s: "  # messages about a stream begin so, and its name is their first argument


class _OneLine(logging.Formatter):
    """Text on one line; only a traceback has more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - name of the base class
        """The message with its fields, without line breaks."""
        return _one_line(super().formatMessage(record))


def formatter(kind: Format, text: str) -> logging.Formatter:
    """What makes lines of this kind; ``text`` is the layout of those for people, as in "{levelname} {message}"."""
    return _json() if kind == "json" else _OneLine(text, "%Y-%m-%dT%H:%M:%S%z", "{")


def message(
    text: str, level: int, stream: str | None = None, event: str | None = None, error: Exception | None = None
) -> logging.LogRecord:
    """A message that no logger has made."""
    cause = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord(__name__, level, "", 0, text, None, cause)
    made.stream, made.event = stream, event
    return made


def _json() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter  # only here: few starts need it

    class Fields(JsonFormatter):
        """``{"time": ..., "level": ..., "stream": ..., "event": ..., "text": ...}``, and ``traceback`` where one is.

        ``time``: ISO 8601 in UTC; ``stream`` and ``event`` are null where a message has none.
        """

        def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
            stream, text = _stream_and_text(record)
            log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
            log_data["level"] = record.levelname.lower()
            log_data["stream"] = stream
            log_data["event"] = getattr(record, "event", None)
            log_data["text"] = _one_line(text)
            if "exc_info" in message_dict:
                log_data["traceback"] = message_dict["exc_info"]

    return Fields(json_ensure_ascii=False)


def _stream_and_text(record: logging.LogRecord) -> tuple[str | None, str]:
    """The stream that a message is about, and the message without its name."""
    stream: str | None = getattr(record, "stream", None)
    if stream is None and isinstance(record.args, tuple) and str(record.msg).startswith(_OF_A_STREAM):
        stream = str(record.args[0])
        return stream, record.getMessage().removeprefix(_OF_A_STREAM % stream)
    return stream, record.getMessage().removeprefix(f"{stream}: ")


def _one_line(text: str) -> str:
    return " ".join(text.split())
