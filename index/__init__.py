"""What this node remembers. Synchronous throughout; called off the event loop, except for memory.

entry        the shared vocabulary: Entry, Question, Purge, keys and clocks
clock        readings that order what happens on many nodes
prompt       a request reduced to what may change its answer: exact key, partition, text to embed

Which questions may stand for one another:
eligibility  which class a prompt is of, and the reason
conversation whether a last turn needs what was said before it
reading      one text as words in their roles (orthography, frames, syntax: the steps to it;
             words: what it is; english, lexicon, language, quantities, patterns: what is known
             of the language)
guard        what no similarity excuses: numbers, negation, entities, order; names the veto
             (alignment: which words of two texts say the same; roles: and in the same role)
calibration  evidence to a score, as fitted (calibration.json, scripts/fit_calibration)
decision     candidates, scores and cuts in, serve or miss out

How often that is wrong, and how it is kept under the bound:
comparison   do two answers say the same? (claims: what an answer claims)
betting      cuts that are proven, intervals that cover, whenever one looks
control      labels from traffic in, cuts out, for each class of prompts
labels       the control's lock and file, records of questions, pairs proven wrong

Texts to vectors, and near ones found:
embedding    runs the encoder (model_files finds and pins it; onnx_export, onnx_bert and
             onnx_torch make its graph, once)
verifier     runs a cross-encoder, if there is one (onnx_cross makes its graph)
vectors      partitions of vectors, from one to millions (partitions, arena, places, codes;
             lists: the only module that imports faiss)
questions    vectors with the texts that they stand for

What lasts:
rows         an entry as bytes, and its checksum
database     the file: its lock, its stamps, setting it aside
room         who leaves when room is short: by value, no tenant at another's expense
queue        what waits to be written
writer       the one thread that writes
store        SQLite: entries and vectors that outlive the process
generations  the table of purges, alike on all nodes: what is dead
sweeps       purges of this node: what is dead, taken off the disk and counted
memory       the hot tier: answers ready to send, bounded by bytes
acceptance   what may be let in of what other nodes say they fetched
hints        their vectors, and when they are believed
similar      answers to other questions, found, judged and proven
answers      memory, store and vectors in step
"""
