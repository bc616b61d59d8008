"""`kubectl traffic`: what flows between workloads, read from the TrafficMetrics API of any SMI mesh.

`client` asks through kubectl, `top` and `graph` are pure, `tap` follows live requests, `command` is the
plugin's front door.
"""
