"""Servers to compare with, and the upstream behind the node. Each is a process of its own."""
