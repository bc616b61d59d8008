"""The sample shop that the demo runs: a web client, an item service, a database, a stranger.

Made of the test application's pieces; only what each role answers is told here.
"""
