"""Measures the sidecar beside other proxies on the same work in the same run: `python -m benchmarks`."""
