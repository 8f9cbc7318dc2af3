"""A loaded text model: tokenizer and network, batches and pooling."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bayes_interest.errors import ConfigError, DeviceError, EncoderError
from bayes_interest.text.pooling import Pooling, choose_pooling, pool
from bayes_interest.text.source import ModelSource

if TYPE_CHECKING:
    import torch

DTypeName = Literal["float32", "bfloat16"]
# Without a word from the model's makers: item texts are short, attention cost is quadratic.
_DEFAULT_MAX_TOKENS: Final = 512
# From here on the cost of a call on a CPU is that of its tokens; below, more than padding.
_CALL_TOKENS: Final = 256
_HALF_CALL_TOKENS: Final = 1024  # products of half precision are done sooner
_LIKE_LENGTH: Final = 0.95


@dataclass(frozen=True)
class EncodedBatch:
    """Some texts and their vectors."""

    position: list[int]
    """(batch,) places of the texts in the list that was given."""
    vectors: np.ndarray
    """(batch, embed_dim) float32."""
    truncated: list[bool]
    """(batch,) whether the text had more than `max_tokens` tokens."""


@dataclass(frozen=True)
class Backbone:
    """A network in evaluation mode on its device, with its tokenizer."""

    name: str
    tokenizer: Any
    network: Any
    device: torch.device
    pooling: Pooling
    max_tokens: int
    embed_dim: int

    def encode(self, texts: Sequence[str], batch_tokens: int) -> Iterator[EncodedBatch]:
        """Vectors of all texts, longest texts first, a batch at a time.

        A text without any token has the zero vector.

        Args:
            texts: not blank, all different, prefix included.
            batch_tokens: most tokens in a batch, padding included; one text may have more.
        """
        ids, truncated = self._tokenize(texts)
        call_tokens = batch_tokens
        if self.device.type == "cpu":
            half = self.network.dtype.itemsize < 4
            call_tokens = _HALF_CALL_TOKENS if half else _CALL_TOKENS
        for position in batches_by_length([len(i) for i in ids], batch_tokens, call_tokens):
            vectors = self._embed([ids[p] for p in position])
            yield EncodedBatch(position, vectors, [truncated[p] for p in position])

    def _tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Token ids of each text cut to `max_tokens`, and whether it was cut."""
        options = {"return_attention_mask": False, "return_token_type_ids": False}
        limit = {"truncation": True, "max_length": self.max_tokens}
        cut = self.tokenizer(list(texts), **limit, **options)["input_ids"]
        full = [p for p, ids in enumerate(cut) if len(ids) >= self.max_tokens]
        truncated = [False] * len(texts)
        if full:  # cut, or exactly as long as allowed? verbose=False: long is no surprise
            some = [texts[p] for p in full]
            uncut = self.tokenizer(some, truncation=False, verbose=False, **options)["input_ids"]
            for p, ids in zip(full, uncut, strict=True):
                truncated[p] = len(ids) > self.max_tokens
        return cut, truncated

    def _embed(self, ids: list[list[int]]) -> np.ndarray:
        """(batch, embed_dim) float32; halves the batch while it does not fit in memory."""
        import torch

        if not ids[0]:  # sorted by length, longest first: no text here has a token
            return np.zeros((len(ids), self.embed_dim), dtype=np.float32)
        try:
            return self._forward(ids)
        except torch.OutOfMemoryError as err:
            if len(ids) == 1:
                raise EncoderError(
                    f"{self.device} has not enough memory for one text of {len(ids[0])} tokens "
                    f"with {self.name!r}; use a smaller max_tokens, dtype='bfloat16' or "
                    "device='cpu'"
                ) from err
        half = len(ids) // 2  # outside the except block, which still holds the memory
        return np.concatenate([self._embed(ids[:half]), self._embed(ids[half:])])

    def _forward(self, ids: list[list[int]]) -> np.ndarray:
        import torch

        lengths = [max(len(i), 1) for i in ids]
        tokens = np.full((len(ids), max(lengths)), self._padding_id(), dtype=np.int64)
        mask = np.zeros_like(tokens)
        for row, text_ids in enumerate(ids):  # padding on the right
            tokens[row, : len(text_ids)] = text_ids
            mask[row, : lengths[row]] = 1
        with torch.inference_mode():
            device_mask = torch.from_numpy(mask).to(self.device)
            hidden = self.network(
                input_ids=torch.from_numpy(tokens).to(self.device), attention_mask=device_mask
            ).last_hidden_state  # (batch, token, embed_dim)
            vectors: np.ndarray = pool(hidden, device_mask, self.pooling).cpu().numpy()
        vectors[[not i for i in ids]] = 0.0
        if not np.isfinite(vectors).all():
            raise EncoderError(
                f"text model {self.name!r} gave NaN or infinite numbers; its weights may be "
                "damaged, or its numbers too large for this dtype"
            )
        return vectors

    def _padding_id(self) -> int:
        # GPT-2 and its like have no padding token; any will do, the mask hides it
        for token_id in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token_id is not None:
                return int(token_id)
        return 0


def batches_by_length(
    lengths: Sequence[int], batch_tokens: int, call_tokens: int = _CALL_TOKENS
) -> Iterator[list[int]]:
    """Positions in batches of like length, longest first, `batch_tokens` with padding or fewer.

    Padding costs as much as text, so a batch of `call_tokens` or more, which is worth a call, ends
    where texts become shorter than its first.
    """
    batch: list[int] = []
    for p in sorted(range(len(lengths)), key=lambda p: -lengths[p]):
        longest = max(lengths[batch[0]], 1) if batch else 0
        full = (len(batch) + 1) * longest > batch_tokens
        worth_a_call = len(batch) * longest >= call_tokens
        if batch and (full or (worth_a_call and lengths[p] < _LIKE_LENGTH * longest)):
            yield batch
            batch = []
        batch.append(p)
    if batch:
        yield batch


def resolve_device(device: str) -> torch.device:
    """The torch device of that name; "auto" is the first CUDA device, or the CPU without one.

    Raises:
        DeviceError: this machine has no such device.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as err:
        raise DeviceError(f"device={device!r} is not a device; try auto, cpu or cuda") from err
    cuda_count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if resolved.type == "cuda" and (resolved.index or 0) >= cuda_count:
        raise DeviceError(
            f"device={device!r} does not exist: torch sees {cuda_count} CUDA device(s). "
            "Use device='auto' or 'cpu'"
        )
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"device={device!r} does not exist here. Use device='auto' or 'cpu'")
    return resolved


def load_backbone(
    source: ModelSource,
    *,
    pooling: Pooling | Literal["auto"],
    max_tokens: int | None,
    device: torch.device,
    dtype: DTypeName,
) -> Backbone:
    """Load a model and its tokenizer from safetensors, with no code from the model's folder.

    The global random state, the torch settings and the transformers settings stay as they are.

    Raises:
        ConfigError: `max_tokens` is more than the model can read, or too few for any word.
        EncoderError: the files cannot be loaded, or lack weights.
    """
    try:
        tokenizer, network, missing = _from_pretrained(source, dtype)
        if getattr(network.config, "is_encoder_decoder", False):
            network = network.get_encoder()
            missing = [key for key in missing if not key.startswith("decoder.")]
        network = network.eval().to(device)
        if hasattr(network.config, "use_cache"):
            network.config.use_cache = False  # no text is continued
        embed_dim = _embed_dim(network, device)
    except Exception as err:  # whatever is wrong with foreign files, the answer is the same
        reason = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise EncoderError(
            f"cannot load text model {source.name!r}: {reason}. It must be a transformers text "
            "model with safetensors weights and its tokenizer, as save_pretrained() writes them"
        ) from err
    _check_complete(source, missing)
    if pooling == "auto":
        pooling = choose_pooling(network.config, source.read_json("1_Pooling/config.json"))
    limit = _token_limit(network.config, tokenizer)
    return Backbone(
        name=source.name,
        tokenizer=tokenizer,
        network=network,
        device=device,
        pooling=pooling,
        max_tokens=_max_tokens(max_tokens, limit, tokenizer, source),
        embed_dim=embed_dim,
    )


def _from_pretrained(source: ModelSource, dtype: DTypeName) -> tuple[Any, Any, list[str]]:
    """Tokenizer, network, and the names of the weights that the files lack."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    at = {} if source.commit is None else {"revision": source.commit}
    with _quiet_transformers(), torch.random.fork_rng(devices=[]):
        tokenizer = AutoTokenizer.from_pretrained(source.location, **at)
        network, info = AutoModel.from_pretrained(
            source.location,
            use_safetensors=True,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            **at,
        )
    return tokenizer, network, sorted(info["missing_keys"])


def _check_complete(source: ModelSource, missing: Sequence[str]) -> None:
    """Missing weights are random, and the vectors would be noise; the pooler is not used."""
    needed = [key for key in missing if not key.startswith("pooler.")]
    if needed:
        raise EncoderError(
            f"the files of text model {source.name!r} lack {len(needed)} weight(s), first: "
            f"{needed[0]!r}; they do not fit the model type in its config.json"
        )


def _embed_dim(network: Any, device: torch.device) -> int:
    """Ask the network: configurations have many names for it."""
    import torch

    with torch.inference_mode():
        one = torch.zeros((1, 1), dtype=torch.int64, device=device)
        return int(network(input_ids=one, attention_mask=one + 1).last_hidden_state.shape[-1])


def _token_limit(config: Any, tokenizer: Any) -> int:
    """Tokens that the model can read at once, special tokens included."""
    positions = getattr(config, "max_position_embeddings", None)
    known = [limit for limit in (tokenizer.model_max_length, positions) if limit and limit > 0]
    return int(min(known)) if known else _DEFAULT_MAX_TOKENS


def _max_tokens(requested: int | None, limit: int, tokenizer: Any, source: ModelSource) -> int:
    if requested is None:
        trained = (source.read_json("sentence_bert_config.json") or {}).get("max_seq_length")
        return min(limit, int(trained) if trained else _DEFAULT_MAX_TOKENS)
    special = int(tokenizer.num_special_tokens_to_add())
    if not special < requested <= limit:
        raise ConfigError(
            f"max_tokens is {requested}; text model {source.name!r} reads at most {limit} tokens, "
            f"and {special} of them are its own marks, so {special + 1} to {limit} are possible"
        )
    return requested


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No loading bars and load reports on stderr; downloads from the hub keep their bar."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if hub_bars:  # the line above turned them off, too
        enable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model folder's age is not the caller's fault
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if not hub_bars:
            disable_progress_bars()
