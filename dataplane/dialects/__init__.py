"""The proxy's counters as other meshes' tools query them.

One module a dialect. Each writes the families that a mesh's own proxies have, with their names, their
labels and their buckets, from the one set of counters in `dataplane.telemetry`; several series may
come to one there, because a dialect knows fewer labels. Label texts are remembered between scrapes.
"""
