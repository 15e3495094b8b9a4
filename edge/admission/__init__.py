"""Who is asking, and may they.

key_format  what a key looks like: a prefix for scanners, chance, a checksum
keys        which tenant a request belongs to, before anything is looked up
issuing     keys made, rotated and revoked while the node runs
rate        a meter: so many units in so much time
shares      one limit that several nodes grant from
plans       what a tenant may use, and has used
fair_queue  whose turn it is, when not all can be served
source      what counts as one client, where nobody says who they are
pace        how often it is the turn of those of one weight
flows       who takes turns with whom
foreseen    how long an answer will be
refusals    what whoever is refused is told
"""
