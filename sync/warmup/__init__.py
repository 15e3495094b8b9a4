"""Filling caches before anybody asks: `promptedge warm`. In reading order:

lines     what a line of a file asks for, in each form that is understood
plan      how fast, in which hours, for how much: rate, quiet hours, budget
source    the file or the pipe that lines come from
journal   what was done, durably, so that an interrupted job goes on where it was
nodes     asking a node by its admin listener
job       the job: each line once, as planned, on every node
report    what became of the lines, for people and for programs
progress  the same while it goes on, on standard error
"""
