"""Words everyone shares: column names and axis names, each stated once."""

from __future__ import annotations

from typing import Final

USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
TIMESTAMP: Final = "timestamp"
KIND: Final = "kind"
VALUE: Final = "value"
TEXT: Final = "text"

EVENT_REQUIRED: Final = (USER_ID, ITEM_ID, TIMESTAMP)
EVENT_OPTIONAL: Final = (KIND, VALUE, TEXT)
ITEM_REQUIRED: Final = (ITEM_ID,)

MEAN: Final = "mean"
SD: Final = "sd"
LOWER: Final = "lower"
UPPER: Final = "upper"
RANK: Final = "rank"
SLATE: Final = "slate"
SCORE: Final = "score"
P_TOP_K: Final = "p_top_k"
EXPECTED_RANK: Final = "expected_rank"
RANK_LOWER: Final = "rank_lower"
RANK_UPPER: Final = "rank_upper"
SLATE_CERTAINTY: Final = "slate_certainty"
EXPECTED_HITS: Final = "expected_hits"
BASIS: Final = "basis"
PROBABILITY: Final = "probability"
LOG_PROB: Final = "log_prob"
P_LEVEL: Final = "p_level="
"""Followed by the level: P(the rating is this level)."""
P_TOP: Final = "p_top"
TOP_HIT: Final = "top_hit"
P_ABOVE: Final = "p_above"
P_TIED: Final = "p_tied"

SECONDS_PER_DAY: Final = 86_400.0
