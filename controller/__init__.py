"""The control plane: World → compile → Snapshot → slice → proxies, and the edges around it."""
