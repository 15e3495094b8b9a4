"""The cross-encoder against sentence-transformers' own scores, and what its files may do to it."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from index import onnx_cross, verifier
from index.model_files import ModelError
from index.verifier import CrossEncoder, VerifierSettings, load
from tests.fakes.tiny_bert import bert_weights

# A BERT of 16 dimensions, made here. What it says means nothing, but every part of it matters.

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *["the", "cat", "sat", "on", "a", "mat", "and", "dog"]]

LOGITS = {
    ("the cat sat", "the dog sat"): -1.4574516,
    ("the dog sat", "the cat sat"): -1.4570057,
    ("a cat", "a mat and a dog"): -1.9363298,
    ("a mat and a dog", "a cat"): -1.5439613,
    ("dog", "dog"): -2.6916904,
}
"""By `CrossEncoder(directory).predict` of sentence-transformers 6.2 without an activation."""


HEADS = {"bert.pooler.dense": (16, 16), "classifier": (1, 16)}
tiny_weights = partial(bert_weights, len(WORDS), positions=14, heads=HEADS)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny(tmp_path / "tiny")


def make_tiny(model: Path) -> Path:
    model.mkdir()
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(model / "tokenizer.json"))
    write(
        model / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "model_max_length": 14,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        },
    )
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": 16,
        "id2label": {"0": "LABEL_0"},
        "intermediate_size": 32,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 14,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": len(WORDS),
    }
    write(model / "config.json", config)
    save_file(tiny_weights(), model / "model.safetensors", {"format": "pt"})
    return model


def write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content), "utf-8")


def config_of(model: Path) -> dict[str, object]:
    config: dict[str, object] = json.loads((model / "config.json").read_text("utf-8"))
    return config


def loaded(model: Path) -> CrossEncoder:
    found = load(VerifierSettings(model=str(model)), model.parent / "cache")
    assert found is not None
    return found


def sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def test_scores_are_those_of_sentence_transformers_the_mean_of_both_orders(tiny: Path) -> None:
    encoder = loaded(tiny)
    for (one, other), logit in LOGITS.items():
        expected = (sigmoid(logit) + sigmoid(LOGITS[other, one])) / 2
        assert encoder.score(one, [other]) == pytest.approx([expected], abs=1e-5)


def test_a_score_is_the_same_either_way_round_and_in_any_company(tiny: Path) -> None:
    encoder = loaded(tiny)
    texts = ["the dog sat", "a cat", "dog", "a mat and a dog"]
    together = encoder.score("the cat sat", texts)
    assert len(set(together)) == len(texts)
    for text, score in zip(texts, together, strict=True):
        assert encoder.score("the cat sat", [text]) == pytest.approx([score], abs=1e-6)
        assert encoder.score(text, ["the cat sat"]) == pytest.approx([score], abs=1e-6)
    assert encoder.score("the cat sat", []) == []


@pytest.mark.parametrize(
    "text", ["the fish sat", "the cat sat on a mat and a dog and the cat", "a " * 4097]
)
def test_what_the_model_cannot_read_is_not_the_same(tiny: Path, text: str) -> None:
    encoder = loaded(tiny)
    readable = encoder.score("the cat sat", ["dog"])[0]
    assert encoder.score("the cat sat", [text, "dog"]) == [0.0, pytest.approx(readable, abs=1e-6)]
    assert encoder.score(text, ["the cat sat"]) == [0.0]


def test_special_tokens_typed_by_a_user_are_text(tiny: Path) -> None:
    assert loaded(tiny).score("the cat [SEP] dog", ["the cat"]) == [0.0]


def test_several_threads_may_ask(tiny: Path) -> None:
    encoder = loaded(tiny)
    expected = encoder.score("a cat", ["a dog", "the dog sat"])
    with ThreadPoolExecutor(4) as threads:
        answers = threads.map(lambda _: encoder.score("a cat", ["a dog", "the dog sat"]), range(40))
    assert all(answer == expected for answer in answers)


def test_without_weights_there_is_no_verifier(tiny: Path) -> None:
    assert load(VerifierSettings(), tiny) is None
    assert load(VerifierSettings(model=str(tiny.parent / "nowhere")), tiny) is None
    (tiny / "model.safetensors").unlink()
    assert load(VerifierSettings(model=str(tiny)), tiny) is None


def test_pinned_weights_that_were_altered_are_refused_by_name(tiny: Path) -> None:
    settings = VerifierSettings(model=str(tiny), sha256="0" * 64)
    with pytest.raises(ModelError, match=r"model\.safetensors .*expected 0000.*found") as told:
        load(settings, tiny.parent / "cache")
    found = str(told.value).rpartition("found ")[2]
    assert load(replace(settings, sha256=found), tiny.parent / "cache") is not None


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", "not weights", "export of .* failed"),
        ("config.json", "not json", "is not JSON"),
        ("config.json", None, "config.json is missing"),
        ("tokenizer.json", None, "no tokenizer.json"),
        ("tokenizer.json", "{}", "is not a tokenizer"),
    ],
)
def test_a_directory_that_is_no_cross_encoder_says_why(
    tiny: Path, file: str, content: str | None, message: str
) -> None:
    if content is None:
        (tiny / file).unlink()
    else:
        (tiny / file).write_text(content)
    with pytest.raises(ModelError, match=message):
        loaded(tiny)


def test_weights_without_the_head_are_an_encoder_and_are_refused(tiny: Path) -> None:
    weights = tiny_weights()
    del weights["classifier.weight"]
    save_file(weights, tiny / "model.safetensors")
    with pytest.raises(ModelError, match=r"export of .* failed: KeyError: 'classifier\.weight'"):
        loaded(tiny)


def test_several_labels_are_refused(tiny: Path) -> None:
    write(tiny / "config.json", config_of(tiny) | {"id2label": {"0": "no", "1": "yes"}})
    with pytest.raises(ModelError, match="tells 2 labels apart"):
        loaded(tiny)


def test_another_architecture_runs_from_the_onnx_file_it_ships(tiny: Path) -> None:
    expected = loaded(tiny).score("a cat", ["a dog"])
    write(tiny / "config.json", config_of(tiny) | {"model_type": "other"})
    with pytest.raises(ModelError, match=r"is a other model.*onnx/model\.onnx"):
        loaded(tiny)
    shipped = tiny / "onnx" / "model.onnx"
    shipped.parent.mkdir()
    whole = onnx_cross.build(config_of(tiny), tiny_weights())
    shipped.write_bytes(whole.SerializeToString())
    assert loaded(tiny).score("a cat", ["a dog"]) == pytest.approx(expected, abs=1e-6)
    shipped.write_bytes(b"not a graph")
    with pytest.raises(ModelError, match="ONNX Runtime cannot load"):
        loaded(tiny)


def test_the_fingerprint_covers_what_makes_a_score(tiny: Path) -> None:
    fingerprints = [loaded(tiny).fingerprint, loaded(tiny).fingerprint]
    with (tiny / "tokenizer.json").open("a") as tokenizer:
        tokenizer.write("\n")
    fingerprints.append(loaded(tiny).fingerprint)
    weights = tiny_weights()
    weights["classifier.bias"] += 1
    save_file(weights, tiny / "model.safetensors")
    fingerprints.append(loaded(tiny).fingerprint)
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3


def test_the_verifier_is_what_the_protocol_says(tiny: Path) -> None:
    known: verifier.Verifier = loaded(tiny)
    assert known.fingerprint in repr(known)
