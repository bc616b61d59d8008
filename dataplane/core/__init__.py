"""Decisions of the sidecar, as pure functions on immutable tables: where to send, whom to admit, what
to answer itself. No sockets, no clock, no randomness of its own; chance is handed in."""
