"""Connections that outlive their request: exec, attach, port-forward, as kubectl and libraries speak them.

`spdy` and `channels` are codecs without input or output; `multiplex`, `duplex` put them on a connection;
`remotecommand` and `portforward` are the two protocols. What runs at the far end is a `Node` (see
`contract`); this package knows neither the API server nor how a container is started.
"""
