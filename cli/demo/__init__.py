"""The demo: a story told with a real cluster, real proxies and real requests.

`story` is the script as data, `judge` compares what was announced with what was observed, `stage`
carries orders to the cluster and its pods, `screen` draws, `play` puts them together.
"""
