"""The node: runs pods as local processes and gives them a network.

`agent` follows the pods of the API and keeps one `pod.PodRunner` per pod; a runner uses `process`, `volumes`,
`environment`, `probes` and `logs`. `network` is the interface of the two drivers, `netns` (root: real
namespaces, iptables, DNS) and `loopback` (anybody: 127.x addresses). It talks to the API only through the
in-process `Api`; controllers and the API server know nothing of it.
"""
