"""The embedded Kubernetes-compatible cluster: API server, controllers, and pods as local processes."""
