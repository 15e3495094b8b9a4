"""The operator's side of a node, on a listener of its own.

admin       probes, metrics, status and purge over HTTP
membership  who belongs to the fleet
upstreams   how the upstreams are; drain and resume
warming     orders of warm-up jobs; snapshots, out and in
"""
