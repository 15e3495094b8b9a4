"""The bare encoder: embeds texts one at a time, tokens included, and tells what CPU that took.

Reads a JSON list of texts a line; writes [CPU seconds, [tokens, ...]] a line.

python -m bench.http.peers.encoder MODELS
"""

import json
import sys
from pathlib import Path
from time import process_time

from index.embedding import EmbeddingSettings, load


def main() -> None:
    encoder = load(EmbeddingSettings(), Path(sys.argv[1]))
    print(json.dumps(encoder.fingerprint), flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        began = process_time()
        for text in texts:
            encoder.embed([text])
        spent = process_time() - began
        print(json.dumps([spent, [len(encoder.read(text).ids) for text in texts]]), flush=True)


if __name__ == "__main__":
    main()
