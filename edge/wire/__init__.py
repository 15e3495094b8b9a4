"""Where bytes meet the outside. In reading order:

acceptor   a listening TCP socket: who may come in
tls        its handshake, and what clear text on the port for it is answered
http1      HTTP/1.1 on aiohttp's low-level server
http3      HTTP/3 on aioquic, under our own UDP endpoint; its docstring maps the quic_* and h3_*
           modules that it is made of
upstream   the client of the upstreams
"""
