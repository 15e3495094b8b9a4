"""Serves prompts. In reading order:

request    Head, Request, Response, EventStream: the same for every HTTP version
errors     whose fault, which status, what to do
json_body  request bodies as JSON, read strictly
kept       small documents that outlive the process
request_ids names for requests
dialects   the LLM APIs spoken: body to prompt, answer to JSON or event stream
admission  who is asking, and may they
policy     may memory answer, may this be stored; rules: what the operator decided
cors       which web pages may ask
documents  what is served as it lies there, to who has it not already
ask        a request read and keyed, not yet answered
intake     from bytes to a query: what can be said before memory is asked
protection what one address may do; door: asked of it before a body is read
large_bodies take turns, and a share of the core
routing    which upstream next
collapse   one fill for equal requests in flight, owned by none of them
batcher    embeds prompts that arrive together in one call, off the loop
dispatch   calls upstreams until one answers
regional   a Redis or Valkey that the nodes of a region share, as a second exact cache
freshness  may an answer be served as old as it is; what has expired
outlook    load, waits, upstreams and calm hours, for everybody
negative   what upstreams refused a moment ago for the request's own sake
fill       disk, then meaning, then an upstream; and what may be stored
refresh    answers fetched anew before or after they expire, while nobody waits
curate     answers put into the cache on purpose
snapshots  what is remembered, out and in; imported: the purges that came with it
untold     purges that hold on this node alone; purges: on whose word
advice     what an operator should know of the fleet, and would not notice; fleet_report: all of it
status     what happened, as Cache-Status and Server-Timing
handler    the path of one request
metrics    counters and histograms
wire       HTTP/1.1 (aiohttp), HTTP/3 (aioquic) and the upstream client
console    the operator's API, on its own listener
config     every setting: file, then environment, then flags; coherence: do they go together;
           preflight: could a node start so
meaning    loads what answers by meaning need; models: which there are, the node's own among them
local_model, identity, listen, log: the demonstration model, secret and certificate, sockets, lines
limits     of plans: what other nodes granted of them, and what they are told
listeners  where users and the operator reach the node
overview   what the operator is shown of it
node       the composition root
"""
