"""What the mesh makes of manifests or of a cluster: `smi-mesh lint` and `smi-mesh explain`.

Both compile with the controller's own `compile` and decide with the sidecar's own functions; nothing
here knows SMI semantics of its own.
"""
