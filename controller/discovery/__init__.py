"""Streams of config to proxies, and the certificates they authenticate with."""
