"""The operator's side of a node, on a listener of its own.

admin       probes, metrics and status; and who may call
purging     what is to go
explaining  how requests are decided
membership  who belongs to the fleet
upstreams   how the upstreams are; drain and resume
warming     orders of warm-up jobs; snapshots, out and in
replies     how all of them answer
"""
