"""Popular answers and purges, the same on every node. A node of this version stands alone.

What is said:
messages       what nodes tell one another, as values and as msgpack
frames         a message signed by its origin
dialogue       what two linked nodes say to each other
roster         who belongs to the fleet, signed by its operator
keybook        which API keys there are, the same way
admission      who may tell whom what

A node's part, a machine without sockets or clocks:
replica        what happened in, what is to be sent out: start here
links          who is linked, and what waits to be sent to them
voice          how a node speaks: its clock, its signature
telling        which answers others may be told
hearing        what others say: proven, judged, applied
recent         frames that need no hearing
own_purges     what this node purged, and may have forgotten that it did
peers          who is alive
mending        what each lacks, and when it is told that
tables         the purges that another lacks
readers        who reads our log, and how far
sources        whose log we read, and how far
cursors        which of that is written down
bus            a message bus instead of readers
seams          what all that stands on: a shelf of answers, and a log
popularity     what is asked for often enough to be told
digest         which keys a node holds, in ten bits each
outbox         the log, purges, roster, cursors: on disk, as rows has them

How it travels:
feed           links with the others over HTTPS, and the replica run by them; needs nothing else
dialling       opens links with sources
connection     one WebSocket between two nodes: messages, and is it alive?
jetstream      for large fleets: NATS JetStream

Who is who, and who belongs to whom:
certificates   X.509 as a fleet uses it
credentials    a node's keys and certificates, and TLS made of them
tokens         what an invite is written as
invites        who may join, once each
application    what a newcomer and its host say to each other
enrolment      how a node comes to belong to a fleet, and ceases to: who decides
joining        and who asks
attempts       who guesses wrong too often has to wait
renewal        the next certificate, in good time

Over HTTPS with the fleet's certificates:
https          connections, strangers, errors
listener       what other nodes reach of this one
peer_client    asks other nodes for what they hold
settings       what a fleet may use up, and where it meets
private_files  files that nobody else may read, whole or not at all

Before anybody asks:
warmup         the job of `promptedge warm`, run beside the nodes
snapshot       what a node remembers as a stream of bytes, proven record by record
"""
