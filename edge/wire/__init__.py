"""Where bytes meet the outside: one module for each HTTP version, and the client of the upstreams."""
