"""Codecs of what is spoken on connections. Pure: bytes in, values out; no sockets, no clock.

`BadMessage` is the only exception that bytes of a peer can cause here.
"""
