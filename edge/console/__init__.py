"""The operator's side of a node, on a listener of its own.

admin  probes, metrics, status and purge over HTTP
"""
