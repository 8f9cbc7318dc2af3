"""Text models with random weights, small enough to be made for every test run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

BERT_DIM, GPT2_DIM, T5_DIM = 22, 26, 14  # multiples of two heads, all different
POSITIONS = 31
SENTENCE = "a the film about space moon soup recipe for tomato astronauts travel to red green"
WORDS = SENTENCE.split()
CJK = "我喜欢看电影太空番茄汤月球"


def save_bert(folder: Path, **config: Any) -> Path:
    """A BERT with WordPiece, which knows some words, all ASCII letters and some Chinese."""
    from transformers import BertConfig, BertModel

    tokenizer = _wordpiece()
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": BERT_DIM,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 37,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.5,
    }
    return _save(folder, tokenizer, BertModel, BertConfig(**(settings | config)))


def save_gpt2(folder: Path) -> Path:
    """A GPT-2 with byte-level BPE and no padding token."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        [SENTENCE, CJK], vocab_size=500, min_frequency=1, special_tokens=["<|endoftext|>"],
        show_progress=False,
    )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token="<|endoftext|>", model_max_length=POSITIONS
    )
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=POSITIONS, n_embd=GPT2_DIM, n_layer=2, n_head=2,
        initializer_range=0.5, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return _save(folder, tokenizer, GPT2Model, config)


def save_t5(folder: Path) -> Path:
    """A T5: of encoder-decoder models only the encoder is used."""
    from transformers import T5Config, T5Model

    tokenizer = _wordpiece()
    config = T5Config(
        vocab_size=len(tokenizer), d_model=T5_DIM, d_kv=7, d_ff=19, num_layers=2, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    return _save(folder, tokenizer, T5Model, config)


def encode_one_by_one(folder: Path, texts: list[str], pooling: str) -> np.ndarray:
    """The oracle: one text at a time, no padding, nothing clever; (n, embed_dim) float32."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModel.from_pretrained(folder).eval()
    vectors = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            tokens = network(input_ids=ids).last_hidden_state[0].numpy()
        pooled = {"mean": tokens.mean(axis=0), "cls": tokens[0], "last": tokens[-1]}[pooling]
        vectors.append(pooled / np.linalg.norm(pooled))
    return np.stack(vectors)


def _wordpiece() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS[1:], *letters]
    pieces += [f"##{letter}" for letter in letters] + list(CJK)
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_max_length=POSITIONS,
    )  # fmt: skip


def _save(folder: Path, tokenizer: Any, model_class: Any, config: Any) -> Path:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        network = model_class(config)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
