"""What users notice of a flash crowd, of an upstream that dies, and of one that gets slow.

python -m bench.surge [--quick] [--only NAME ...] [--litellm DIR] [--chart FILE] [--out FILE]

crowd       who asks what, and when: Poisson arrivals, popular prompts, those who pay and the others
upstream    a model server that gets busy as real ones do
systems     the node, LiteLLM's proxy and the upstream itself as processes: how each is started
load        open-loop load, and what became of each request
scenarios   what is tried
figures     what that left as figures, with goals
chart       the surge as a picture
"""
