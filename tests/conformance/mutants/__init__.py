"""Broken meshes on purpose: that every case of the conformance suite can fail, and on what.

`python -m tests.conformance.mutants` runs the suite against each of them and prints the matrix.
"""
