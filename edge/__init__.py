"""Serves prompts. In reading order:

request    Head, Request, Response, EventStream: the same for every HTTP version
errors     whose fault, which status, what to do
dialects   the LLM APIs spoken: body to prompt, answer to JSON or event stream
admission  who is asking, and may they
policy     may we answer from the store, may we store this
status     what happened, as Cache-Status, Age, Server-Timing
routing    which upstream next
collapse   one upstream fetch for equal requests, owned by none of them
batcher    embeds prompts that arrive together in one call, off the loop
handler    the path of one request
metrics    counters and histograms
wire       HTTP/1.1 (aiohttp), HTTP/3 (aioquic) and the upstream client
console    the operator's API, on its own listener
config     every setting: file, then environment, then flags
node       the composition root
"""
