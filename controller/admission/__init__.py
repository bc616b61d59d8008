"""Webhooks: sidecar injection, validation and conversion. Decisions are pure, `server` has the sockets."""
