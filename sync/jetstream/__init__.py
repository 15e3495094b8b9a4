"""A large fleet over NATS JetStream: a replica's frames out and in, as its `BUS`.

settings     the servers, and what they keep
subjects     where what is said, and by whom
permissions  what a server must know of the nodes, as its configuration
client       one connection, until it breaks
streams      what is kept, and how it comes to be
reading      one source, in order, from a cursor of our own
publishing   many frames on their way at once, each acknowledged
lag          how far behind every node's words we are
line         a connection that is watched: a session has two
session      what is said and heard, until anything goes wrong
driver       one session after another: what a node runs
"""
