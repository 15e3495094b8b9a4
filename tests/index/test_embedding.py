"""The encoder against sentence-transformers' own vectors, and what its files may do to it."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from index import embedding, onnx_bert
from index.embedding import EmbeddingSettings, Encoder, ModelError, load, pool, runs
from tests.fakes.tiny_bert import bert_weights

GOLDEN = json.loads((Path(__file__).parents[1] / "vectors" / "minilm.json").read_text("utf-8"))
TEXTS: list[str] = [case["text"] for case in GOLDEN["cases"]]
EXPECTED = np.array([case["vector"] for case in GOLDEN["cases"]], np.float32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def minilm(cache: Path) -> Encoder:
    return load(EmbeddingSettings(), cache)


@pytest.fixture(scope="module")
def minilm_int8(cache: Path) -> Encoder:
    return load(EmbeddingSettings(precision="int8"), cache)


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    found: NDArray[np.float32] = np.einsum("ij,ij->i", one, other) / lengths
    return found


def test_vectors_are_those_of_sentence_transformers(minilm: Encoder) -> None:
    vectors = minilm.embed(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), minilm.dimensions) == (len(TEXTS), 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    assert cosines(vectors, EXPECTED).min() >= 0.99999
    assert np.abs(vectors - EXPECTED).max() < 2e-5  # 5e-6 of it is the file's rounding


def test_int8_stays_near(minilm_int8: Encoder) -> None:
    near = cosines(minilm_int8.embed(TEXTS), EXPECTED)
    assert near.min() > 0.98
    assert np.median(near) > 0.997


@pytest.mark.parametrize("which", ["minilm", "minilm_int8"])
def test_company_does_not_change_a_vector(which: str, request: pytest.FixtureRequest) -> None:
    encoder: Encoder = request.getfixturevalue(which)
    alone = np.concatenate([encoder.embed([text]) for text in TEXTS])
    assert np.abs(encoder.embed(TEXTS) - alone).max() < 1e-5
    padded = encoder._run([encoder.read(text).ids for text in TEXTS])
    assert np.abs(padded - alone).max() < 1e-5


def test_several_threads_may_ask(minilm: Encoder) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(minilm.embed, [TEXTS[:4]] * 12))
    assert all(np.array_equal(answer, answers[0]) for answer in answers)


def test_no_texts_no_vectors(minilm: Encoder) -> None:
    assert minilm.embed([]).shape == (0, 384)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("How do I reset my password?", None),
        ("", None),
        ("a naïve café", None),
        ("[UNK] [SEP] [PAD]", None),  # typed, not meant
        ("用中文怎么说你好?", "unknown-token"),
        ("what does \N{SNOWMAN WITHOUT SNOW} mean", "unknown-token"),
        ("word " * 254, None),
        ("word " * 255, "too-long"),
        ("a" * 4096, "unknown-token"),
        ("a" * 4097, "too-long"),
        (" " * 4097 + "a", "too-long"),
        ("中" * 1_000_000, "too-long"),
    ],
)
def test_inspect_names_why_a_text_has_no_vector_of_its_own(
    minilm: Encoder, text: str, reason: str | None
) -> None:
    assert minilm.inspect(text) == reason
    tokens = minilm.read(text)
    assert tokens.reason == reason
    assert len(tokens.ids) <= 256
    assert minilm.embed_tokens([tokens]).shape == (1, 384)


def test_special_tokens_typed_by_a_user_are_text(minilm: Encoder) -> None:
    ids = minilm.read("yes [SEP] no [UNK]").ids
    assert ids.count(102) == 1
    assert 100 not in ids


@given(st.lists(st.integers(2, 256), max_size=60))
@settings(deadline=None)
def test_runs_take_every_text_once_within_the_limits(lengths: list[int]) -> None:
    places = list(runs(lengths))
    assert sorted(place for run in places for place in run) == list(range(len(lengths)))
    for run in places:
        padded = len(run) * max(lengths[place] for place in run)
        assert len(run) == 1 or padded <= embedding.BATCH_TOKENS_MAX
        assert padded <= embedding.BATCH_PADDING_MAX * sum(lengths[place] for place in run)
        assert len(run) <= embedding.BATCH_TEXTS_MAX


def test_pooling_leaves_padding_out() -> None:
    tokens = np.array([[[1, 8], [3, 2], [9, 99]], [[5, 5], [7, 7], [6, 9]]], np.float32)
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int64)
    assert pool(tokens, mask, "mean").tolist() == [[2, 5], [6, 7]]
    assert pool(tokens, mask, "cls").tolist() == [[1, 8], [5, 5]]
    assert pool(tokens, mask, "max").tolist() == [[3, 8], [7, 9]]


def test_the_node_never_meets_torch_nor_onnx_stays_small_and_tells_nobody(
    minilm: Encoder, cache: Path, tmp_path: Path
) -> None:
    script = (
        "import sys; from pathlib import Path; from index.embedding import *\n"
        "load(EmbeddingSettings(), Path(sys.argv[1])).embed(['hello there'])\n"
        "print(sorted({'torch', 'onnx', 'huggingface_hub'} & set(sys.modules)))\n"
        "print(open('/proc/self/status').read().split('VmRSS:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(cache)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert not list(tmp_path.iterdir()), "ONNX Runtime keeps there what it will report"
    imported, resident_kib = done.stdout.splitlines()
    assert imported == "[]"
    assert int(resident_kib) < 150 * 1024


# A BERT of 16 dimensions, made here: what follows is about files, not about meaning.

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *["the", "cat", "sat", "on", "a", "mat", "and", "dog"]]
tiny_weights = partial(bert_weights, len(WORDS), positions=12)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    model = tmp_path / "tiny"
    (model / "1_Pooling").mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(model / "tokenizer.json"))
    write(model / "tokenizer_config.json", {"unk_token": {"content": "[UNK]"}})
    write(model / "modules.json", [{"type": "a.Transformer"}, {"type": "b.Pooling"}])
    write(model / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": 16,
        "intermediate_size": 32,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 12,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "pad_token_id": 0,
    }
    write(model / "config.json", config)
    save_file(tiny_weights(), model / "model.safetensors")
    return model


def write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content), "utf-8")


def pinned(model: Path) -> EmbeddingSettings:
    """Settings as the refusal of an unpinned model advises."""
    try:
        load(EmbeddingSettings(model="own/tiny", path=model), model.parent / "unused")
    except ModelError as refusal:
        sha256 = str(refusal).partition('embedding.sha256 = "')[2].rstrip('"')
        return EmbeddingSettings(model="own/tiny", path=model, sha256=sha256)
    raise AssertionError("an unpinned model was loaded")


def test_a_model_that_is_not_pinned_is_refused_with_what_to_set(tiny: Path) -> None:
    encoder = load(pinned(tiny), tiny.parent / "cache")
    assert repr(encoder) == f"<Encoder own--tiny-{encoder.fingerprint} 16 dimensions>"
    assert encoder.inspect("the dog sat") is None
    assert encoder.inspect("the fish sat") == "unknown-token"
    assert encoder.inspect("the cat sat on a mat and a dog and the cat") == "too-long"


def test_altered_weights_are_refused_by_name(tiny: Path) -> None:
    settings = pinned(tiny)
    weights = tiny / "model.safetensors"
    flip_a_bit(weights)
    with pytest.raises(ModelError, match=r"model\.safetensors .*expected SHA-256 .*found") as told:
        load(settings, tiny.parent / "cache")
    assert settings.sha256 is not None
    assert settings.sha256 in str(told.value)


def test_the_default_model_is_pinned_wherever_it_lies(tiny: Path) -> None:
    with pytest.raises(ModelError, match="expected SHA-256 53aa5117"):
        load(EmbeddingSettings(path=tiny), tiny.parent / "cache")


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".onnx", "altered"),
        (".onnx", "missing"),
        (".onnx.data", "altered"),
        (".onnx.data", "cut"),
        (".onnx.data", "missing"),
        (".onnx.sha256", "altered"),
        (".onnx.sha256", "cut"),
        (".onnx.sha256", "missing"),
    ],
)
def test_a_damaged_export_is_made_again(tiny: Path, suffix: str, damage: str) -> None:
    settings, cache = pinned(tiny), tiny.parent / "cache"
    vector = load(settings, cache).embed(["the cat"])
    (file,) = [file for file in cache.iterdir() if file.name.endswith(suffix)]
    good = file.read_bytes()
    match damage:
        case "altered":
            flip_a_bit(file)
        case "cut":  # between the two lines of the .sha256
            file.write_bytes(good[: good.find(b"\n") + 1])
        case _:
            file.unlink()
    assert np.array_equal(load(settings, cache).embed(["the cat"]), vector)
    assert file.read_bytes() == good
    assert len(list(cache.iterdir())) == 3


def test_an_intact_export_is_used_as_it_is(tiny: Path) -> None:
    settings, cache = pinned(tiny), tiny.parent / "cache"
    load(settings, cache)
    before = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    load(settings, cache)
    assert {file.name: file.stat().st_mtime_ns for file in cache.iterdir()} == before


def test_the_fingerprint_covers_what_makes_a_vector(tiny: Path) -> None:
    settings, cache = pinned(tiny), tiny.parent / "cache"
    fingerprints = [load(settings, cache).fingerprint]
    write(tiny / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    fingerprints.append(load(settings, cache).fingerprint)
    with (tiny / "tokenizer.json").open("a") as tokenizer:
        tokenizer.write("\n")
    fingerprints.append(load(settings, cache).fingerprint)
    flip_a_bit(tiny / "model.safetensors")
    fingerprints.append(load(pinned(tiny), cache).fingerprint)
    assert len(set(fingerprints)) == 4


def test_another_architecture_runs_from_the_onnx_file_it_ships(tiny: Path) -> None:
    settings, shipped = pinned(tiny), tiny / "onnx" / "model.onnx"
    expected = load(settings, tiny.parent / "cache").embed(["the cat", "a dog sat on the mat"])
    config = json.loads((tiny / "config.json").read_text("utf-8"))
    shipped.parent.mkdir()
    whole = onnx_bert.build(config, tiny_weights(), "fp32")
    shipped.write_bytes(whole.SerializeToString())
    write(tiny / "config.json", config | {"model_type": "other"})
    with pytest.raises(ModelError, match=r"model\.onnx is not the pinned file"):
        load(settings, tiny.parent / "other")
    encoder = load(pinned(tiny), tiny.parent / "other")
    assert np.array_equal(encoder.embed(["the cat", "a dog sat on the mat"]), expected)
    assert not (tiny.parent / "other").exists()


def test_an_architecture_we_cannot_write_says_what_to_install(tiny: Path) -> None:
    settings = pinned(tiny)
    config = json.loads((tiny / "config.json").read_text("utf-8"))
    write(tiny / "config.json", config | {"model_type": "other"})
    with pytest.raises(ModelError, match=r"promptedge\[models\]|export of"):
        load(settings, tiny.parent / "cache")
    with pytest.raises(ModelError, match="int8 is for BERT models only"):
        load(replace(settings, precision="int8"), tiny.parent / "cache")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pooling .* is not supported"),
        ("config.json", None, "has no config.json"),
        ("tokenizer.json", None, "no tokenizer.json"),
        ("model.safetensors", None, "neither model.safetensors nor onnx/model.onnx"),
    ],
)
def test_a_directory_that_is_no_model_says_why(
    tiny: Path, file: str, content: object, message: str
) -> None:
    if content is None:
        (tiny / file).unlink()
    else:
        write(tiny / file, content)
    with pytest.raises(ModelError, match=message):
        load(EmbeddingSettings(model="own/tiny", path=tiny), tiny.parent / "cache")


def test_an_export_that_fails_leaves_nothing_behind(tiny: Path) -> None:
    weights = tiny_weights()
    del weights["bert.encoder.layer.0.output.dense.weight"]
    save_file(weights, tiny / "model.safetensors")
    cache = tiny.parent / "cache"
    with pytest.raises(ModelError, match=r"export of .* failed: KeyError.*output\.dense\.weight"):
        load(pinned(tiny), cache)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_the_operators_to_mend(tiny: Path) -> None:
    occupied = tiny.parent / "file"
    occupied.write_text("not a directory")
    with pytest.raises(ModelError, match="cannot write the exported model"):
        load(pinned(tiny), occupied)


def test_a_model_that_is_nowhere_says_where_to_put_it(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from index.embedding import *\n"
        "try: load(EmbeddingSettings(model='own/nowhere'), Path('unused'))\n"
        "except ModelError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    assert done.stdout.startswith("model own/nowhere is not installed")
    assert done.stdout.rstrip().endswith("Set embedding.path to a directory with its files")
