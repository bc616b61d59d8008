"""The YAML files that the demo applies; every one also works with `kubectl apply -f`."""
