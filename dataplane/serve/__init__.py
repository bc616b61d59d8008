"""The only place with sockets: protocols on uvloop, pools, TLS, drain. `start` opens the listeners."""

from dataplane.serve.limits import Limits
from dataplane.serve.listeners import Running, start

__all__ = ["Limits", "Running", "start"]
