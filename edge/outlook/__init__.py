"""How it is and how it will be, for everybody: load, waits, upstreams, maintenance, calm hours.

settings  what the operator lets be told
load      how busy the node is now
history   how busy it is at each hour of the week, learned from its own
quiet     which of the hours to come are calm
health    how the upstreams are, in words that give nothing away
facts     all of it as a document; what refusals say of it
chart     the hours to come, as a picture
page      all of it for people
board     looks, remembers and tells
"""
