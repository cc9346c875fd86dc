"""Server-Sent Events from bytes: an incremental decoder that knows no sockets.

It follows the rules of the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream", with two differences
that large payloads ask for: an event's data stays UTF-8 bytes until someone wants text, and an event may not grow
without bound. There is no limit to a line: a chain's ``complete`` is one line of megabytes.
"""

import re
from dataclasses import dataclass
from typing import Final

from longtake.errors import EventTooLarge

MAX_EVENT_BYTES: Final = 512 * 1024 * 1024
"""Default limit of one event's size."""

_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_CR: Final = 13
_LONGEST_NUMBER: Final = 18


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event as it was dispatched.

    ``name``: ``message`` where the stream gave none. ``data``: UTF-8 as it arrived, several data lines joined by
    line feeds. ``id``: the last id the stream gave so far, empty for none.
    """

    name: str
    data: bytes
    id: str

    @property
    def text(self) -> str:
        """The data as text; bytes that are no UTF-8 become U+FFFD."""
        return self.data.decode("utf-8", errors="replace")


class Decoder:
    """Turns chunks of bytes, split anywhere, into events; the time it takes is linear in their number.

    ``max_event_bytes`` bounds what is held of an event that has not ended: its data and the line being read.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._start: bytearray | None = bytearray()
        self._after_cr = False
        self._line = bytearray()
        self._name = ""
        self._data: bytearray | None = None
        self._id = ""
        self.last_event_id = ""
        """The last id the stream gave in a block that has ended, empty for none."""
        self.retry_ms: int | None = None
        """How long the stream asks to wait before a reconnection, in milliseconds."""

    @property
    def mid_event(self) -> bool:
        """Whether a part of an event or a line has arrived that has not ended yet."""
        return bool(self._line) or self._data is not None or bool(self._name)

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that ``chunk`` completes, in order. An event that the stream's end cuts off is never returned.

        Raises:
            EventTooLarge: an event outgrew ``max_event_bytes``; the decoder is of no further use.
        """
        if self._start is not None:
            chunk = self._without_bom(self._start, chunk)
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        events: list[ServerSentEvent] = []
        begin = 0
        view = memoryview(chunk)
        for end in _LINE_END.finditer(chunk):
            self._extend(view[begin : end.start()])
            begin = end.end()
            if event := self._end_line():
                events.append(event)
        self._extend(view[begin:])
        self._after_cr = chunk[-1] == _CR if chunk else self._after_cr
        return events

    def _without_bom(self, start: bytearray, chunk: bytes) -> bytes:
        start += chunk
        if len(start) < len(_BOM) and _BOM.startswith(start):
            return b""
        self._start = None
        return bytes(start.removeprefix(_BOM))

    def _extend(self, part: memoryview) -> None:
        self._line += part
        held = len(self._line) + len(self._data or b"")
        if held > self._max_event_bytes:
            raise EventTooLarge(f"an event of the stream is larger than {self._max_event_bytes} bytes")

    def _end_line(self) -> ServerSentEvent | None:
        line, self._line = self._line, bytearray()
        if not line:
            return self._dispatch()
        colon = line.find(b":")
        field = bytes(line if colon < 0 else line[:colon])
        # A bytearray gives up its front without moving the rest.
        del line[: len(line) if colon < 0 else colon + 1]
        if line.startswith(b" "):
            del line[:1]
        self._take(field, line)
        return None

    def _take(self, field: bytes, value: bytearray) -> None:
        if field == b"data":
            if self._data is None:
                self._data = value
            else:
                self._data += b"\n"
                self._data += value
        elif field == b"event":
            self._name = value.decode("utf-8", errors="replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", errors="replace")
        elif field == b"retry" and value.isdigit() and len(value) <= _LONGEST_NUMBER:
            self.retry_ms = int(value)

    def _dispatch(self) -> ServerSentEvent | None:
        name, data = self._name, self._data
        self._name, self._data = "", None
        self.last_event_id = self._id
        if data is None:
            return None
        return ServerSentEvent(name=name or "message", data=bytes(data), id=self._id)
