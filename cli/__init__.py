"""The `smi-mesh` command: what a person types, and what the terminal answers.

It starts and stops the embedded cluster, installs the mesh through the Kubernetes API and tells the
demo's story. It knows no policy and forwards no request itself.
"""
