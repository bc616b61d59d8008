"""The embedded Kubernetes API server.

Data flows `server` (HTTPS) → `handlers` → `rest` (verbs) → `store` (memory + SQLite), and back out through
`watch`. Controllers that live in the same process enter at `api.Api` and skip only HTTP, authentication and
authorization; defaulting, admission and validation are the same for them.
"""

from __future__ import annotations
