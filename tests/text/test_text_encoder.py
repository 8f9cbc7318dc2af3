"""TextEncoder on tiny models: pooling, order, batches, limits, cache use, messages."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayes_interest import progress
from bayes_interest.errors import ConfigError, DataWarning, DeviceError, EncoderError, InputError
from bayes_interest.text.backbone import Backbone, batches_by_length
from bayes_interest.text.encoder import Encoder, TextEncoder, encoder_from_spec
from tests.text import tiny_models

TEXTS = [
    "a film about space",
    "soup",
    "recipe for tomato soup",
    "astronauts travel to the moon",
    "the red red red red moon and the green green film",
    "我喜欢看太空电影",
    "番茄汤",
]


def encoder(folder: Path, **options: Any) -> TextEncoder:
    return TextEncoder(folder, device="cpu", **options)


def encode(folder: Path, texts: list[str], **options: Any) -> np.ndarray:
    return encoder(folder, cache=False, **options).encode(texts, progress=False)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, no model may be loaded."""

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("bayes_interest.text.encoder.load_backbone", refuse)


# ---------------------------------------------------------------- vectors


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_pooling_equals_one_text_at_a_time(
    model: str, pooling: Any, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(model)
    expected = tiny_models.encode_one_by_one(folder, TEXTS, pooling)
    actual = encode(folder, TEXTS, pooling=pooling)
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize(("model", "pooling"), [("bert", "mean"), ("gpt2", "last")])
def test_auto_pooling_follows_the_kind_of_model(
    model: str, pooling: Any, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(model)
    np.testing.assert_array_equal(encode(folder, TEXTS), encode(folder, TEXTS, pooling=pooling))


@pytest.mark.parametrize(
    ("content", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({}, "mean"),
    ],
)
def test_auto_pooling_honours_sentence_transformers(
    bert: Path, tmp_path: Path, content: dict[str, Any], pooling: Any
) -> None:
    folder = with_pooling_config(bert, tmp_path, content)
    np.testing.assert_array_equal(encode(folder, TEXTS), encode(bert, TEXTS, pooling=pooling))


def test_pooling_that_is_not_offered_is_named(bert: Path, tmp_path: Path) -> None:
    both = {"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}
    folder = with_pooling_config(bert, tmp_path, both)
    with pytest.raises(EncoderError, match=r"max_tokens \+ cls_token.*mean, cls, last"):
        encode(folder, TEXTS)


def with_pooling_config(model: Path, tmp_path: Path, content: dict[str, Any]) -> Path:
    folder = Path(shutil.copytree(model, tmp_path / "with-pooling"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(content))
    return folder


def test_encoder_decoder_models_use_their_encoder(tmp_path: Path) -> None:
    vectors = encode(tiny_models.save_t5(tmp_path / "tiny-t5"), TEXTS)
    assert vectors.shape == (len(TEXTS), tiny_models.T5_DIM)
    alone = encode(tmp_path / "tiny-t5", TEXTS[2:3])
    np.testing.assert_allclose(vectors[2], alone[0], atol=1e-5)


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_vectors_do_not_depend_on_the_batch(model: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(model)
    together = encode(folder, TEXTS)
    np.testing.assert_allclose(encode(folder, TEXTS, batch_tokens=1), together, atol=1e-5)
    np.testing.assert_allclose(encode(folder, TEXTS, batch_tokens=17), together, atol=1e-5)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(encode(folder, [text])[0], together[row], atol=1e-5)


def test_rows_come_in_the_order_of_the_texts(bert: Path) -> None:
    vectors = encode(bert, TEXTS)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = encode(bert, [TEXTS[i] for i in order])
    np.testing.assert_allclose(shuffled, vectors[order], atol=1e-5)


def test_equal_texts_are_encoded_once(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    forward = Backbone._forward

    def count(self: Backbone, ids: list[list[int]]) -> np.ndarray:
        seen.extend(ids)
        return forward(self, ids)

    monkeypatch.setattr(Backbone, "_forward", count)
    asked = encoder(bert)
    vectors = asked.encode(["soup", "moon", "soup", "soup", "film"], progress=False)
    assert len(seen) == 3
    np.testing.assert_array_equal(vectors[[0, 0]], vectors[[2, 3]])
    assert asked.last_report is not None
    assert (asked.last_report.texts, asked.last_report.unique) == (5, 3)
    assert (asked.last_report.encoded, asked.last_report.from_cache) == (3, 0)


def test_blank_texts_are_zero_vectors(bert: Path, gpt2: Path) -> None:
    for folder in (bert, gpt2):
        asked = encoder(folder, prefix="query: ")
        vectors = asked.encode(["", "soup", " \n\t"], progress=False)
        assert not vectors[[0, 2]].any()
        assert np.linalg.norm(vectors[1]) == pytest.approx(1.0, abs=1e-6)
        assert asked.last_report is not None
        assert (asked.last_report.empty, asked.last_report.encoded) == (2, 1)


def test_a_text_without_tokens_is_a_zero_vector(bert: Path, tmp_path: Path) -> None:
    """A tokenizer that drops what it does not know, and puts no marks of its own."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    folder = Path(shutil.copytree(bert, tmp_path / "no-marks"))
    dropping = Tokenizer(models.BPE(vocab={"s": 5, "o": 6}, merges=[]))
    PreTrainedTokenizerFast(tokenizer_object=dropping, pad_token="[PAD]").save_pretrained(folder)
    vectors = encode(folder, ["so", "番", "汤", "oo"])
    assert not vectors[[1, 2]].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 3]], axis=1), 1.0, atol=1e-6)
    assert not encode(folder, ["番"]).any()


def test_no_texts_give_an_empty_array(bert: Path) -> None:
    assert encode(bert, []).shape == (0, tiny_models.BERT_DIM)


def test_chinese_texts_have_vectors_of_their_own(bert: Path) -> None:
    vectors = encode(bert, ["我喜欢看电影", "我喜欢看太空", "番茄汤"])
    assert np.isfinite(vectors).all()
    similarity = vectors @ vectors.T
    assert similarity[np.triu_indices(3, 1)].max() < 0.999


def test_broken_unicode_is_encoded_all_the_same(bert: Path) -> None:
    asked = encoder(bert)
    assert np.isfinite(asked.encode(["soup \ud800", "a\x00b"], progress=False)).all()


def test_normalize_false_keeps_the_length(bert: Path) -> None:
    raw, unit = encode(bert, TEXTS, normalize=False), encode(bert, TEXTS)
    length = np.linalg.norm(raw, axis=1, keepdims=True)
    assert (np.abs(length - 1.0) > 0.1).all()
    np.testing.assert_allclose(raw / length, unit, atol=1e-6)


def test_prefix_goes_before_every_text(bert: Path) -> None:
    prefixed = encode(bert, ["soup", "moon"], prefix="the red ")
    np.testing.assert_allclose(prefixed, encode(bert, ["the red soup", "the red moon"]), atol=1e-5)


def test_bfloat16_is_close_to_float32(bert: Path) -> None:
    small, full = encode(bert, TEXTS, dtype="bfloat16"), encode(bert, TEXTS)
    assert small.dtype == np.float32
    assert not np.array_equal(small, full)
    assert ((small * full).sum(axis=1) > 0.98).all()


def test_batches_hold_the_token_budget_and_every_text_once() -> None:
    lengths = [3, 11, 1, 7, 7, 2, 5, 13, 0]
    batches = list(batches_by_length(lengths, 14))
    assert sorted(p for batch in batches for p in batch) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(lengths[p] for p in b) <= 14 for b in batches)
    assert batches[0] == [7]


@given(
    lengths=st.lists(st.integers(0, 300), max_size=60),
    budget=st.integers(1, 700),
    call=st.integers(1, 300),
)
def test_batches_pad_little_once_they_are_worth_a_call(
    lengths: list[int], budget: int, call: int
) -> None:
    batches = list(batches_by_length(lengths, budget, call))
    assert sorted(p for batch in batches for p in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(max(lengths[p] for p in batch), 1)
        assert len(batch) == 1 or len(batch) * longest <= budget
        extra = batch[-(-call // longest) :]  # those that came when a call was worth it already
        assert all(lengths[p] >= 0.95 * longest for p in extra)


def test_a_short_text_is_not_padded_to_a_long_one(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """39 texts of 31 tokens and 39 of 3: one batch would hold 2,418 tokens, these hold 1,326."""
    shapes = []
    forward = Backbone._forward

    def look(self: Backbone, ids: list[list[int]]) -> np.ndarray:
        shapes.append((len(ids), max(map(len, ids))))
        return forward(self, ids)

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    short = [*letters, *tiny_models.CJK]
    long = [" ".join([word] + ["moon"] * 28) for word in short]
    texts = [text for pair in zip(long, short, strict=True) for text in pair]
    monkeypatch.setattr(Backbone, "_forward", look)
    together = encode(bert, texts)
    assert sorted(shapes) == [(len(short), 3), (len(long), 31)]
    alone = tiny_models.encode_one_by_one(bert, texts, "mean")
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_batch_that_does_not_fit_in_memory_is_halved(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    expected = encode(bert, TEXTS)
    forward = Backbone._forward

    def small_memory(self: Backbone, ids: list[list[int]]) -> np.ndarray:
        if len(ids) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, ids)

    monkeypatch.setattr(Backbone, "_forward", small_memory)
    np.testing.assert_allclose(encode(bert, TEXTS), expected, atol=1e-5)


# ---------------------------------------------------------------- truncation


def test_truncation_is_reported_and_remembered(bert: Path) -> None:
    # [CLS] + words + [SEP]: five words are seven tokens
    texts = ["red red red red red", "red red red red red moon", "soup", "a b c d e f g h"]
    for from_cache in (0, 4):
        asked = encoder(bert, max_tokens=7)
        with pytest.warns(DataWarning, match="2 of 4 different texts are longer than 7 tokens"):
            vectors = asked.encode(texts, progress=False)
        report = asked.last_report
        assert report is not None
        assert (report.truncated, report.max_tokens, report.from_cache) == (2, 7, from_cache)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_max_tokens_reads_more(bert: Path) -> None:
    text = ["red red red red red moon soup"]
    with pytest.warns(DataWarning, match="longer than 5 tokens"):
        short = encode(bert, text, max_tokens=5)
    assert not np.allclose(short, encode(bert, text, max_tokens=11), atol=1e-3)


def test_max_tokens_comes_from_the_model(bert: Path, tmp_path: Path) -> None:
    asked = encoder(bert)
    asked.encode(["soup"], progress=False)
    assert asked.last_report is not None
    assert asked.last_report.max_tokens == tiny_models.POSITIONS
    folder = Path(shutil.copytree(bert, tmp_path / "limited"))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 13}')
    limited = encoder(folder)
    limited.encode(["soup"], progress=False)
    assert limited.last_report is not None
    assert limited.last_report.max_tokens == 13


@pytest.mark.parametrize("max_tokens", [2, tiny_models.POSITIONS + 1])
def test_impossible_max_tokens_is_named(bert: Path, max_tokens: int) -> None:
    with pytest.raises(ConfigError, match=rf"max_tokens is {max_tokens}.*3 to 31 are possible"):
        encode(bert, ["soup"], max_tokens=max_tokens)


# ---------------------------------------------------------------- cache


def test_a_second_run_loads_no_model(
    bert: Path, cache_folder: Path, request: pytest.FixtureRequest
) -> None:
    first = encoder(bert)
    vectors = first.encode(TEXTS, progress=False)
    assert len(list(cache_folder.glob("tiny-bert-*.sqlite"))) == 1
    request.getfixturevalue("no_model")
    second = encoder(bert)
    np.testing.assert_array_equal(second.encode(TEXTS[::-1], progress=False), vectors[::-1])
    assert second.last_report is not None
    assert (second.last_report.encoded, second.last_report.from_cache) == (0, len(TEXTS))
    assert second.encode([], progress=False).shape == (0, tiny_models.BERT_DIM)


def test_only_new_texts_are_encoded(bert: Path) -> None:
    expected = encode(bert, TEXTS)
    encoder(bert).encode(TEXTS[:3], progress=False)
    asked = encoder(bert)
    np.testing.assert_allclose(asked.encode(TEXTS, progress=False), expected, atol=1e-5)
    assert asked.last_report is not None
    assert (asked.last_report.encoded, asked.last_report.from_cache) == (4, 3)


@pytest.mark.parametrize(
    "other",
    [
        {"pooling": "cls"},
        {"max_tokens": 9},
        {"prefix": "query: "},
        {"normalize": False},
        {"dtype": "bfloat16"},
    ],
)
def test_every_setting_has_a_cache_of_its_own(bert: Path, other: dict[str, Any]) -> None:
    encoder(bert).encode(["soup"], progress=False)
    asked = encoder(bert, **other)
    asked.encode(["soup"], progress=False)
    assert asked.last_report is not None
    assert asked.last_report.encoded == 1


def test_the_cache_is_known_by_content_not_by_folder_name(bert: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(bert, tmp_path / "tiny-bert"))
    encoder(bert).encode(["soup"], progress=False)
    again = encoder(moved)
    again.encode(["soup"], progress=False)
    shutil.rmtree(moved)
    tiny_models.save_bert(moved, hidden_act="relu")
    changed = encoder(moved)
    changed.encode(["soup"], progress=False)
    assert again.last_report is not None
    assert changed.last_report is not None
    assert (again.last_report.encoded, changed.last_report.encoded) == (0, 1)


def test_a_folder_rewritten_while_in_use_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "model"))
    encoder(folder).encode(["soup"], progress=False)
    asked = encoder(folder)
    asked.encode(["soup"], progress=False)  # from the cache, nothing is loaded
    tiny_models.save_bert(folder, hidden_act="relu")
    with pytest.raises(EncoderError, match="its files have changed"):
        asked.encode(["moon"], progress=False)


def test_interrupted_work_is_kept(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Backbone._forward
    calls = iter(range(99))

    def stop(self: Backbone, ids: list[list[int]]) -> np.ndarray:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, ids)

    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "_forward", stop)
        with pytest.raises(KeyboardInterrupt):
            encoder(bert, batch_tokens=1).encode(TEXTS, progress=False)
    again = encoder(bert)
    again.encode(TEXTS, progress=False)
    assert again.last_report is not None
    assert again.last_report.from_cache == 3


def test_cache_false_writes_nothing(bert: Path, cache_folder: Path) -> None:
    encode(bert, TEXTS)
    assert not cache_folder.exists()


def test_a_cache_that_cannot_be_written_is_done_without(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    asked = encoder(bert, cache=tmp_path / "file" / "cache")
    with pytest.warns(DataWarning, match="cannot be used.*cache=False"):
        vectors = asked.encode(TEXTS, progress=False)
    np.testing.assert_array_equal(vectors, encode(bert, TEXTS))


def test_a_damaged_cache_is_built_again(bert: Path, cache_folder: Path) -> None:
    vectors = encoder(bert).encode(TEXTS, progress=False)
    (file,) = cache_folder.glob("*.sqlite")
    file.write_bytes(b"no database" * 1000)
    asked = encoder(bert)
    with pytest.warns(DataWarning, match="is damaged.*built again"):
        again = asked.encode(TEXTS, progress=False)
    np.testing.assert_allclose(again, vectors, atol=1e-6)
    assert len(list(cache_folder.glob("*.corrupt-*"))) == 1
    after = encoder(bert)
    after.encode(TEXTS, progress=False)
    assert after.last_report is not None
    assert after.last_report.from_cache == len(TEXTS)


def test_a_second_process_reads_the_cache_without_torch(bert: Path) -> None:
    expected = encoder(bert).encode(TEXTS, progress=False)
    script = (
        "import json, sys\n"
        "from bayes_interest.text.encoder import TextEncoder\n"
        f"encoder = TextEncoder({str(bert)!r})\n"
        f"vectors = encoder.encode({TEXTS!r}, progress=False)\n"
        "assert encoder.last_report.encoded == 0\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "sys.stdout.write(json.dumps(vectors.tolist()))\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    np.testing.assert_array_equal(np.array(json.loads(run.stdout), dtype=np.float32), expected)


# ---------------------------------------------------------------- manners


def test_import_loads_nothing_heavy() -> None:
    script = (
        "import sys, bayes_interest.text.encoder\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'huggingface_hub', 'pyro'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_global_state_is_left_alone(bert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torch
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled
    from transformers.utils import logging as transformers_logging

    def state() -> tuple[Any, ...]:
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # type: ignore[index]
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            transformers_logging.get_verbosity(),
            transformers_logging.is_progress_bar_enabled(),
            are_progress_bars_disabled(),
            logging.getLogger().level,
            list(warnings.filters),
        )

    before = state()
    encode(bert, TEXTS)
    assert state() == before
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_on_a_terminal_only(
    bert: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder(bert, cache=False).encode(TEXTS)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)
    encoder(bert, cache=False).encode(TEXTS)
    out, err = capfd.readouterr()
    assert not out
    assert "encoding texts: 100%" in err
    assert "7/7" in err
    encoder(bert, cache=False).encode(TEXTS, progress=False)
    assert capfd.readouterr() == ("", "")


def test_the_bar_begins_at_what_the_cache_knew(
    bert: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder(bert).encode(TEXTS[:3], progress=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)
    encoder(bert).encode(TEXTS)
    shown = capfd.readouterr().err
    assert "encoding texts (3 cached): 100%" in shown
    assert "7/7" in shown


def test_the_log_tells_what_was_done_and_how_fast(
    bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder(bert).encode(TEXTS[:3], progress=False)
    asked = encoder(bert)
    with caplog.at_level(logging.INFO, logger="bayes_interest"):
        asked.encode([*TEXTS, "soup", ""], progress=False)
    assert asked.last_report is not None
    rate = f"{asked.last_report.texts_per_second:,.0f} per second"
    assert asked.last_report.texts_per_second == 9 / asked.last_report.seconds
    line = caplog.messages[-1]
    assert line.startswith("texts to vectors with tiny-bert: 9 texts in ")
    assert rate in line
    assert line.endswith("8 different, 4 encoded, 3 from the cache, 1 blank, 0 cut to 31 tokens")


def test_texts_that_are_found_keep_their_rows_among_blank_and_new_ones(bert: Path) -> None:
    known = dict(zip(TEXTS, encode(bert, TEXTS), strict=True))
    encoder(bert).encode([TEXTS[1], TEXTS[4]], progress=False)
    for asked in (["", *TEXTS], [TEXTS[4], " ", TEXTS[0], TEXTS[1]], [*TEXTS, *TEXTS[::-1], ""]):
        vectors = encoder(bert).encode(asked, progress=False)
        expected = [known.get(text, np.zeros(tiny_models.BERT_DIM)) for text in asked]
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_weights_in_the_folder_that_are_missing_are_an_error(bert: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(bert, tmp_path / "holes"))
    weights = load_file(folder / "model.safetensors")
    kept = {k: v for k, v in weights.items() if "layer.1.output" not in k}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"lack 4 weight.*layer\.1\.output"):
        encode(folder, ["soup"])
    without_pooler = {k: v for k, v in weights.items() if "pooler" not in k}
    save_file(without_pooler, folder / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_array_equal(encode(folder, TEXTS), encode(bert, TEXTS))


def test_nan_in_the_weights_is_an_error(bert: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(bert, tmp_path / "nan"))
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][:] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match="gave NaN or infinite numbers"):
        encode(folder, ["soup"])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("soup", "single str, expected a sequence"),
        (["soup", None], r"texts\[1\] is None of type NoneType.*where a text is missing"),
        ([float("nan")], r"texts\[0\] is nan of type float"),
    ],
)
def test_texts_that_are_no_texts_are_named(bert: Path, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder(bert).encode(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "pooling is 'max', expected one of auto, mean, cls, last"),
        ({"dtype": "float16"}, "dtype is 'float16', expected one of float32, bfloat16"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"batch_tokens": -3}, "batch_tokens is -3"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextEncoder(**options)


def test_a_missing_device_is_named_even_where_the_cache_is_full(bert: Path) -> None:
    import torch

    encoder(bert).encode(["soup"], progress=False)
    count = torch.cuda.device_count()
    with pytest.raises(DeviceError, match=rf"'cuda:{count}' does not exist: torch sees {count}"):
        TextEncoder(bert, device=f"cuda:{count}").encode(["soup"])
    with pytest.raises(DeviceError, match="'gpu' is not a device; try auto, cpu or cuda"):
        TextEncoder(bert, device="gpu").encode(["soup"])


def test_cuda_gives_the_same_vectors(bert: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    on_gpu = TextEncoder(bert, device="cuda", cache=False).encode(TEXTS, progress=False)
    np.testing.assert_allclose(on_gpu, encode(bert, TEXTS), atol=1e-4)


# ---------------------------------------------------------------- spec


def test_spec_round_trip_gives_the_same_vectors(bert: Path) -> None:
    asked = encoder(bert, pooling="cls", max_tokens=19, prefix="the ", normalize=False)
    assert isinstance(asked, Encoder)
    assert asked.name == "tiny-bert"
    vectors = asked.encode(TEXTS, progress=False)
    spec = json.loads(json.dumps(asked.spec()))
    rebuilt = encoder_from_spec(spec, device="cpu", cache=False)
    np.testing.assert_allclose(rebuilt.encode(TEXTS, progress=False), vectors, atol=1e-6)
    assert rebuilt.spec() == asked.spec()


def test_spec_before_use_names_the_model_only(bert: Path) -> None:
    assert encoder(bert).spec()["identity"] is None
    assert TextEncoder().spec()["model"] is None


def test_a_rebuilt_encoder_refuses_a_changed_model(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "model"))
    asked = encoder(folder)
    asked.encode(["soup"], progress=False)
    tiny_models.save_bert(folder, hidden_act="relu")
    rebuilt = encoder_from_spec(asked.spec())
    assert rebuilt.spec()["identity"] == asked.spec()["identity"]
    with pytest.raises(EncoderError, match=r"its files have\s+changed.*fit again"):
        rebuilt.encode(["soup"], progress=False)


def test_unknown_specs_are_named() -> None:
    with pytest.raises(EncoderError, match="unknown encoder kind 'magic'"):
        encoder_from_spec({"kind": "magic"})
    with pytest.raises(EncoderError, match="does not fit"):
        encoder_from_spec({"kind": "text", "identity": None, "colour": "red"})
