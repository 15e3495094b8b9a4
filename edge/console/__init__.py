"""The operator's side of a node, on a listener of its own.

admin       probes, metrics, status and purge over HTTP
membership  who belongs to the fleet
warming     orders of warm-up jobs; snapshots, out and in
"""
