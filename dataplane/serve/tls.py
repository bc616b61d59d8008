"""TLS over a TCP transport, as a transport of its own.

asyncio's and uvloop's TLS cannot half-close and allocate 256 kB per read; TLS 1.3 can half-close
(RFC 8446 §6.1), and opaque protocols need it between proxies. So the records are made here, with
the standard library's `SSLObject` on memory BIOs. To the protocol above, `TlsLayer` is the
transport; to the TCP transport below, it is the protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from dataplane.serve.sockets import stream

_RECORD: Final = 16384
"""Most plain text of one record (RFC 8446 §5.1)."""


OnReady = Callable[["TlsLayer"], asyncio.Protocol | None]
"""Called after the handshake; gives the protocol above, or None to refuse the peer (the layer resets)."""
OnFailed = Callable[[Exception], None]


class TlsLayer:
    """One TLS connection. `failed` is told when the handshake does not succeed."""

    __slots__ = (
        "_app",
        "_eof_received",
        "_eof_sent",
        "_in",
        "_loss",
        "_on_failed",
        "_on_ready",
        "_out",
        "_raw",
        "_seconds",
        "_server_name",
        "_timer",
        "_tls",
        "context",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        on_ready: OnReady,
        on_failed: OnFailed,
        *,
        seconds: float,
        server_name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """`server_name`: the SNI to send; None makes this the server's side. `seconds`: for the handshake,
        and for a peer to take what is left when TLS has failed.

        `session`: of the same context, for a client to resume if the server still knows it.
        """
        self.context = context
        self._server_name = server_name
        self._on_ready: OnReady | None = on_ready
        self._on_failed = on_failed
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._in,
            self._out,
            server_side=server_name is None,
            server_hostname=server_name,
            session=session,
        )
        self._raw: asyncio.Transport | None = None
        self._app: asyncio.Protocol | None = None
        self._eof_sent = False
        self._eof_received = False
        self._loss: Exception | None = None
        self._seconds = seconds
        # Not before there is a connection: nobody tells this layer of one that could not be made, and the
        # timer would keep its SSL object (60 kB) alive meanwhile.
        self._timer: asyncio.TimerHandle | None = None

    @property
    def transport(self) -> asyncio.Transport:
        """Itself, by what it can do: it inherits from nothing, so that it can be compiled."""
        return cast("asyncio.Transport", self)

    @property
    def protocol(self) -> asyncio.Protocol:
        """The same for the TCP transport below."""
        return cast("asyncio.Protocol", self)

    # --- what the handshake said ---------------------------------------------------------------

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The peer's verified certificate, as `SSLObject.getpeercert()` gives it."""
        return self._tls.getpeercert()

    @property
    def certificate_der(self) -> bytes:
        """The same as DER, which is much cheaper to get; empty if there is none."""
        return self._tls.getpeercert(binary_form=True) or b""

    @property
    def resumed(self) -> bool:
        """The certificate was shown at an earlier connection, not at this one."""
        return bool(self._tls.session_reused)

    @property
    def session(self) -> ssl.SSLSession | None:
        """What a later connection can resume; None as long as the server has sent no ticket."""
        session = self._tls.session
        return session if session is not None and session.has_ticket else None

    @property
    def alpn(self) -> str | None:
        return self._tls.selected_alpn_protocol()

    @property
    def sni(self) -> str | None:
        """The server name the client asked for; the server's context keeps it (see control.identity)."""
        name = getattr(self._tls, "mesh_sni", None)
        return name if isinstance(name, str) else None

    # --- protocol side: called by the TCP transport ------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = stream(transport)
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._too_slow)
        if self._server_name is not None:
            self._handshake()

    def data_received(self, data: bytes) -> None:
        if self._eof_received:
            return  # RFC 8446 §6.1: what follows close_notify is ignored
        self._in.write(data)
        if self._on_ready is not None:
            self._handshake()
        else:
            self._read()

    def eof_received(self) -> bool:
        """TCP's end. After close_notify it says nothing new: our side may still be sending."""
        if self._eof_received:
            return True
        # what it sent may be incomplete
        self._lose(ConnectionAbortedError("the peer closed without close_notify"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        loss, self._loss = self._loss or exc, None
        app, self._app = self._app, None
        if self._on_ready is not None:
            self._on_ready = None
            self._on_failed(loss or ConnectionResetError("closed during the TLS handshake"))
        elif app is not None:
            app.connection_lost(loss)

    def pause_writing(self) -> None:
        if self._app is not None:
            self._app.pause_writing()

    def resume_writing(self) -> None:
        if self._app is not None:
            self._app.resume_writing()

    # --- transport side: called by the protocol above ----------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        raw = self._raw
        if raw is None or self._eof_sent or self._loss is not None or not data:
            return
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            self._lose(error)
            return
        raw.write(self._out.read())

    def write_eof(self) -> None:
        """Send close_notify; the peer may go on sending."""
        if self._eof_sent or self._raw is None or self._loss is not None:
            return
        self._eof_sent = True
        with contextlib.suppress(ssl.SSLError):  # "want read": the peer goes on, which is the point
            self._tls.unwrap()
        self._flush()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.write_eof()
        if self._raw is not None:
            self._raw.close()

    def abort(self) -> None:
        if self._raw is not None:
            self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw is None or self._raw.is_closing()

    def pause_reading(self) -> None:
        if self._raw is not None:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if self._raw is not None:
            self._raw.resume_reading()

    def is_reading(self) -> bool:
        return self._raw is not None and self._raw.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size() if self._raw is not None else 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if self._raw is not None:
            self._raw.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the TCP transport below has it."""
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._app = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._app is not None
        return self._app

    # --- records -----------------------------------------------------------------------------------

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            self._lose(error)
            return
        if self._server_name is not None:
            self._flush()  # a server has only its ticket left to send, which goes with its first record
        self._stop_timer()
        on_ready, self._on_ready = self._on_ready, None
        assert on_ready is not None
        app = on_ready(self)
        if app is None:
            self.abort()
            return
        self._app = app
        app.connection_made(self.transport)
        if self._in.pending:
            self._read()

    def _read(self) -> None:
        """Take everything out of the BIO at once: half-closing needs it empty of whole records."""
        tls, incoming = self._tls, self._in
        data = b""
        more: list[bytes] = []
        ended = False
        failure: ssl.SSLError | None = None
        try:
            data = tls.read(_RECORD)  # one record at most: what the BIO does not hold, nobody does
            ended = not data
            while incoming.pending and not ended:
                piece = tls.read(_RECORD)
                ended = not piece
                more.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as error:
            failure = error
        if more:
            data = b"".join((data, *more))
        if data and self._app is not None:
            self._app.data_received(data)
        if failure is not None:
            self._flush()
            self._lose(failure)
        elif ended:
            self._ended()

    def _ended(self) -> None:
        """close_notify from the peer."""
        self._eof_received = True
        if self._app is not None and not self._app.eof_received():
            self.close()

    def _flush(self) -> None:
        data = self._out.read()
        if data and self._raw is not None:
            self._raw.write(data)

    def _lose(self, loss: Exception) -> None:
        if self._loss is None:
            self._loss = loss
            if self._raw is not None:
                self._raw.close()  # not abort: an alert may be in the buffer
                if self._timer is None:  # a peer that does not read would keep it there
                    self._timer = asyncio.get_running_loop().call_later(self._seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._raw is not None:
            self._loss = self._loss or TimeoutError("the TLS handshake took too long")
            self._raw.abort()
