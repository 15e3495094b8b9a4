"""What `deploy/` ships, tried with the tools that it is for."""
