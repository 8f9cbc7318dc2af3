"""HashingEncoder: the same everywhere, near where words are shared, at home in Chinese."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from bayes_interest.errors import ConfigError, InputError
from bayes_interest.text.encoder import Encoder, HashingEncoder, encoder_from_spec

TEXTS = ["a film about space", "a film about the moon", "tomato soup", "番茄汤", ""]

# Frozen: a changed hash would silently spoil every saved model. Made by
#   vector = HashingEncoder(11).encode(["tomato soup"])[0]
#   {int(i): float(vector[i]) for i in np.flatnonzero(vector)}
FROZEN_CELLS = {2: 3**-0.5, 8: 3**-0.5, 10: -(3**-0.5)}


def test_shape_length_and_order() -> None:
    vectors = HashingEncoder(61).encode(TEXTS)
    assert vectors.shape == (5, 61)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[:4], axis=1), 1.0, atol=1e-6)
    assert not vectors[4].any()
    np.testing.assert_array_equal(HashingEncoder(61).encode(TEXTS[::-1]), vectors[::-1])
    assert HashingEncoder(61).encode([]).shape == (0, 61)


def test_inner_products_estimate_the_cosine_of_the_bags() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(40)])
    texts = [" ".join(rng.choice(words, 17)) for _ in range(30)]
    hashed = HashingEncoder(256).encode(texts)
    exact = np.array([[bag_cosine(a, b) for b in texts] for a in texts])
    error = (hashed @ hashed.T - exact)[np.triu_indices(30, 1)]
    assert np.sqrt((error**2).mean()) < 2 / np.sqrt(256)
    assert abs(error.mean()) < 0.02  # signs make the estimate unbiased


def bag_cosine(a: str, b: str) -> float:
    """The oracle: dictionaries of words and word pairs, no hashing."""
    bags = []
    for text in (a, b):
        words = text.split()
        bag: dict[str, int] = {}
        for gram in words + [" ".join(p) for p in itertools.pairwise(words)]:
            bag[gram] = bag.get(gram, 0) + 1
        bags.append(bag)
    dot = sum(count * bags[1].get(gram, 0) for gram, count in bags[0].items())
    return float(dot / np.prod([np.sqrt(sum(c * c for c in bag.values())) for bag in bags]))


def test_shared_words_are_near_in_english_and_chinese() -> None:
    for near_a, near_b, far in [
        ("a film about space", "another film about space", "tomato soup recipe"),
        ("我喜欢看太空电影", "太空电影很好看", "番茄汤的做法"),
        ("東京の天気", "東京の明日の天気", "猫が好き"),
    ]:
        a, b, c = HashingEncoder().encode([near_a, near_b, far])
        assert a @ b > 0.3
        assert a @ b > a @ c + 0.2


def test_case_and_width_do_not_matter() -> None:
    vectors = HashingEncoder().encode(["Straße ABC 12", "STRASSE abc 12", "straße ＡＢＣ １２"])
    np.testing.assert_array_equal(vectors[[0, 0]], vectors[1:])


def test_word_order_matters_to_pairs_only() -> None:
    pairs = HashingEncoder().encode(["red moon soup", "soup moon red"])
    single = HashingEncoder(ngram_range=(1, 1)).encode(["red moon soup", "soup moon red"])
    np.testing.assert_array_equal(single[0], single[1])
    assert pairs[0] @ pairs[1] < 0.9


def test_vectors_are_frozen() -> None:
    vector = HashingEncoder(11).encode(["tomato soup"])[0]
    cells = {int(i): float(vector[i]) for i in np.flatnonzero(vector)}
    assert cells == pytest.approx(FROZEN_CELLS, abs=1e-6)


def test_the_same_in_another_process() -> None:
    script = (
        "import json, sys\n"
        "from bayes_interest.text.encoder import HashingEncoder\n"
        f"sys.stdout.write(json.dumps(HashingEncoder().encode({TEXTS!r}).tolist()))\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    np.testing.assert_array_equal(json.loads(run.stdout), HashingEncoder().encode(TEXTS))


def test_spec_round_trip() -> None:
    encoder = HashingEncoder(37, ngram_range=(1, 3))
    assert isinstance(encoder, Encoder)
    rebuilt = encoder_from_spec(json.loads(json.dumps(encoder.spec())))
    assert rebuilt.name == encoder.name == "hashing-37"
    assert rebuilt.spec() == encoder.spec()
    np.testing.assert_array_equal(rebuilt.encode(TEXTS), encoder.encode(TEXTS))


def test_impossible_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="embed_dim is 1, expected at least 2"):
        HashingEncoder(1)
    with pytest.raises(ConfigError, match=r"ngram_range is \(2, 1\)"):
        HashingEncoder(ngram_range=(2, 1))
    with pytest.raises(InputError, match=r"texts\[1\] is None"):
        HashingEncoder().encode(["soup", None])  # type: ignore[list-item]
