"""What this node remembers. Synchronous throughout; called off the event loop, except for memory.

entry        the shared vocabulary: Entry, Match, Purge, keys and clocks
prompt       a request reduced to what may change its answer: exact key, partition, text to embed

Which questions may stand for one another:
eligibility  which texts may be matched by meaning at all, and the reason when not
guard        what no similarity excuses: numbers, negation, entities, order; names the veto
             (english, lexicon, frames, reading, patterns: what it knows of the language)
decision     candidates and evidence in, serve or miss out

Texts to vectors, and near ones found:
embedding    the only module that runs a model (model_files finds and pins it; onnx_export,
             onnx_bert and onnx_torch make its graph, once)
vectors      partitions over FAISS: the only module that imports faiss
questions    vectors with the texts that they stand for

What lasts:
rows         an entry as bytes, and its checksum
database     the file: its lock, its stamps, setting it aside
writer       the one thread that writes
store        SQLite: entries and vectors that outlive the process
generations  what was purged since when
memory       the hot tier: answers ready to send, bounded by bytes
answers      memory, store and vectors in step
"""
