"""A Redis or Valkey that the nodes of a region share: a second exact cache, which may be lost.

settings  where it is, and how much of it is used
sealing   names that tell nothing, and values that only the fleet can read or write
client    commands to the server, each within its time; the one module that knows the library
health    whether the server is worth asking
tier      looks there on a miss, and puts there in the background what was fetched
gcra      the meters of edge.admission, in a script that the server runs
strict    limits of plans that no two nodes can grant twice
"""
