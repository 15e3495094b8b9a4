"""Which answers are served by meaning, and which of them wrongly: the peers' rules and ours.

python -m bench.quality [--data DIR] [--cache DIR] [--heldout FILE] [--only SET ...]

sets       labelled questions: pairs, and streams whose right answer is known
drift      the same texts as a year would bring them: topics come and go, answers change
encoding   one vector a text, made once and kept; the nearest of each, exactly
methods    what every rule is to the bench, and the rules that are a cosine and a cut
vcache     a threshold of its own for each entry, learned from what it would have served
ours       our own rule, learning from the stream as a node does
cross      a calibration that has not seen a set
run        a pair or a stream through one rule, and what came of it
coverage   whether the interval that is shown holds the truth
cost       what a decision takes beyond the vector
tables     the numbers as they are printed
"""
