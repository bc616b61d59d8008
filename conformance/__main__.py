"""`python -m conformance run|list`: the suite against the cluster of a kubeconfig."""

from conformance.command import main

main()
