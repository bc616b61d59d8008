"""Several processes that serve the same listeners as one sidecar (docs/adr/0016-workers.md).

The first process, `crew`, has the certificate, the config stream and the admin port, and no
listener. Each `worker` has listeners, which the kernel shares connections out to, and nothing else.
"""
