"""What one address may do, whoever is behind it: to keep one of them from using up what is there
for all.

settings     how much of what
rates        so many in so much time, for as many sources as there are
connections  who may open a connection, on either wire
lockout      who tried too many wrong keys

What counts as one address is in `edge.admission.source`. Every table is bounded, and forgets
whoever was heard of longest ago.
"""
