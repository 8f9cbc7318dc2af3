"""From one vector per token to one vector per text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from bayes_interest.errors import EncoderError

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls", "last"]
POOLINGS: Final[tuple[Pooling, ...]] = ("mean", "cls", "last")

# The words of sentence-transformers' 1_Pooling/config.json, old style and new style.
_SENTENCE_TRANSFORMERS: Final[Mapping[str, Pooling]] = {
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last",
    "mean_tokens": "mean",
    "cls_token": "cls",
}


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Text vectors (batch, embed_dim) float32 from token vectors.

    Args:
        hidden: (batch, token, embed_dim), any float type.
        mask: (batch, token), 1 at real tokens and 0 at the padding, which comes last; every row
            has a real token.
        pooling: "mean" of the real tokens, "cls" the first token, "last" the last real token.
    """
    hidden = hidden.float()
    if pooling == "cls":
        return hidden[:, 0]
    tokens = mask.sum(dim=1)  # (batch,)
    if pooling == "last":
        last = (tokens - 1).view(-1, 1, 1).expand(-1, 1, hidden.shape[2])
        return hidden.gather(1, last).squeeze(1)
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(dim=1) / tokens.unsqueeze(-1)


def choose_pooling(config: Any, pooling_config: Mapping[str, Any] | None) -> Pooling:
    """The pooling that a model was made for.

    Args:
        config: the `transformers` configuration of the model.
        pooling_config: content of sentence-transformers' `1_Pooling/config.json`, if there is one;
            it wins.

    Returns:
        "last" for models that read left to right only (GPT-2, Llama, Qwen ...), else "mean".

    Raises:
        EncoderError: `pooling_config` asks for something other than mean, cls or last.
    """
    if pooling_config is not None:
        return _from_sentence_transformers(pooling_config)
    return "last" if _reads_left_to_right(config) else "mean"


def _from_sentence_transformers(pooling_config: Mapping[str, Any]) -> Pooling:
    mode = pooling_config.get("pooling_mode")
    if mode is None:
        prefix = "pooling_mode_"
        flags = [key for key, on in pooling_config.items() if key.startswith(prefix) and on]
        modes = [flag.removeprefix(prefix) for flag in flags] or ["mean"]
    else:
        modes = [mode] if isinstance(mode, str) else list(mode)
    if len(modes) != 1 or modes[0] not in _SENTENCE_TRANSFORMERS:
        raise EncoderError(
            f"the model's 1_Pooling/config.json asks for pooling {' + '.join(map(str, modes))}, "
            f"which is not offered; choose pooling= one of {', '.join(POOLINGS)}"
        )
    return _SENTENCE_TRANSFORMERS[modes[0]]


def _reads_left_to_right(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if getattr(config, "is_encoder_decoder", False):
        return False
    if getattr(config, "is_decoder", False):
        return True
    # GPT-2 and its like do not set is_decoder, and a bare backbone does not say ForCausalLM.
    names = getattr(config, "architectures", None) or []
    causal_type = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked_type = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return (causal_type and not masked_type) or any(n.endswith("ForCausalLM") for n in names)
