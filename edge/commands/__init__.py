"""Commands of more than a call: their options, and what they print.

calling     how a running node is asked, and the options that all commands share
membership  promptedge invite, promptedge join, promptedge revoke
nats        promptedge nats-permissions, promptedge nats-streams
purging     promptedge purge
warm        promptedge warm
snapshot    promptedge export, promptedge import
upstreams   promptedge upstream list, drain, resume
"""
