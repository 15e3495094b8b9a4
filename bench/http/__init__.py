"""What a request costs a node, beside peers that do the same work, in one run.

python -m bench.http [--seconds S] [--rounds N] [--only SECTION ...] [--out FILE]

work        the request and the answer that everyone exchanges
machine     cores, CPU time and memory of a process and its children, from /proc
servers     the node and its peers as processes: how each is started, what it needs
load        wrk for HTTP/1.1, h3load for HTTP/3: requests, latencies, CPU in between
exact       exact hits over each wire, at several numbers of connections
stock       stores filled with questions and answers, and wordings to ask for them
semantic    hits by meaning and misses, against the bare encoder
start       from exec to the first hit, and resident memory
profile     py-spy on the node while it is under load
report      tables, ratios, goals
peers/      the servers that are ours to write, each as small as its library allows
"""
