"""The sidecar. `python -m dataplane` runs it, `python -m dataplane.intercept` sets the redirect rules.

Of `smi` it may import only `names` and `policy`; on the start path nothing that costs memory per
pod (pydantic, kopf, kubernetes, aiohttp, cryptography): see docs/architecture.md, import rule 7.
"""

VERSION = "0.1.0"
