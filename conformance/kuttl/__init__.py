"""Suites written in KUTTL's format, run against any cluster: the official SMI tests are written so.

The format is that of the KUTTL documentation (kuttl.dev/v1beta1). `model`, `names`, `layout`, `match`, `crd`,
`expand` and `outcome` are pure; `load`, `commands`, `objects` and `run` do the input and output.
"""
