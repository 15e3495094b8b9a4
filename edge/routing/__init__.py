"""Which upstream answers: decisions only, from values and `now`. In reading order:

settings     what the operator says: upstreams, tiers, weights, maintenance
need         what one request needs, and what is usual
headers      what an upstream's header fields say of its limits
allowances   what is left of them; spreading before they run out
latency      how long it lets wait for the first token, by length of the prompt
recent       counts that fade
breaker      may it be asked at all: open, half-open, resting, recovering
limit        how many requests at a time may wait there
ceiling      how many it takes before it refuses
lane         what it is for one model
upstream     all of that for one upstream, and what asking it would cost
outliers     which fails so much more than the others that it is left out
budget       what retries, hedges and probes are paid from
choice       the cheapest of those that can, and probes
call         one upstream being asked
maintenance  when one is being worked on
pool         all upstreams, and the way of one request among them
report       how they are, for operators
"""
