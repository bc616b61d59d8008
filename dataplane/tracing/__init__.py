"""Spans: made on the way of a request (`tracer`), told in OpenTelemetry's words (`semantics`), encoded
(`otlp`, `zipkin`). What sends them is `dataplane.control.exporting`.
"""
