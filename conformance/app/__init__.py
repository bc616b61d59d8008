"""The test application: one small program that answers and calls.

Five nouns: an `http1` message is read and written; a `server` runs a handler per request; the
`echo` handler says who answered and what it saw; the `line` server does the same for raw TCP; the
`caller` sends requests from inside a pod because the `control` port told it to.

Standard library only, so that it starts in a fraction of a second in any image with a Python; `http2` needs
jh2 and is imported when somebody speaks HTTP/2 or gRPC.
"""
