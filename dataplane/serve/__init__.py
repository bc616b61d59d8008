"""The only place with sockets: protocols on uvloop, pools, TLS, drain. `start` opens the listeners."""

from dataplane.serve.datagrams import Intercepted, open_intercepted
from dataplane.serve.limits import Limits
from dataplane.serve.listeners import Running, start

__all__ = ["Intercepted", "Limits", "Running", "open_intercepted", "start"]
