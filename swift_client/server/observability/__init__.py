"""Watching the service: one record per request, and listeners that count, trace and log it.

``RequestRecord`` collects the facts of a request, ``Observers`` passes them to every listener. ``Metrics`` counts for
Prometheus, ``Traces`` makes spans for OpenTelemetry, and ``RequestLog`` writes log lines.
"""
