"""Conformance to SMI, checked on any mesh: the test application, and exact statistics.

It knows the specification and nothing of this mesh's controller, sidecar or embedded cluster.
"""
