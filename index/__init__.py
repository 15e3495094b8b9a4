"""What this node remembers. Synchronous throughout; called off the event loop, except for memory.

entry        the shared vocabulary: Entry, Match, Purge, keys and clocks
prompt       a request reduced to what may change its answer: exact key, partition, text to embed
eligibility  which texts may be matched by meaning at all, and the reason when not
guard        what no similarity excuses: numbers, negation, entities, order; names the veto
decision     candidates and evidence in, serve or miss out
embedding    text to vectors: the only module that loads a model
vectors      partitions over FAISS: the only module that imports faiss
store        SQLite: entries and vectors that outlive the process
memory       the hot tier in front of the store: answers ready to send, bounded by bytes
answers      memory, store and vectors in step
"""
