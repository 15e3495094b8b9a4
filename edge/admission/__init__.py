"""Who is asking, and may they.

keys  API keys: which tenant a request belongs to, before anything is looked up
"""
