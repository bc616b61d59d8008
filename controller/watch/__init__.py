"""The only place that watches Kubernetes: kopf indexes and event handlers, nothing that writes to objects."""
