"""What all rivals share: `fit`, `score_events` and `rank`, on the model's own terms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import pandas as pd

from bayes_interest.baselines.known import Known
from bayes_interest.baselines.links import Link, LogisticCurve, Softmax
from bayes_interest.baselines.timeline import Timeline
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import ConfigError, InputError, ItemError, NotFittedError, TimeOrderError
from bayes_interest.events.read import EventLog, read_events, read_items
from bayes_interest.events.split import moment_seconds
from bayes_interest.posterior.answers import listed
from bayes_interest.schema import ITEM_ID, LOG_PROB, MEAN, RANK, SCORE, SLATE, TIMESTAMP, USER_ID
from bayes_interest.text.encoder import Encoder, TextEncoder

CELLS = 2_000_000  # of a table (event, item)
CHOICE_SHARE = 0.1  # the last part of train on which the scale of a softmax is chosen
CURVE_SHARE = 0.2  # the last part of train on which a logistic curve is fitted
MAX_CHOICES, MAX_CURVE = 2_000, 5_000  # events of those parts, at most, evenly spread
LEAST = 1e-30  # of a probability, before its logarithm is taken

Learned = TypeVar("Learned")


@dataclass(frozen=True)
class Fitted(Generic[Learned]):
    """A fit: what is known, the parameters of `_learn`, and how scores become probabilities."""

    known: Known
    learned: Learned
    link: Link


class Baseline(ABC, Generic[Learned]):
    """A rival of the model: the same log and items in, the same tables out.

    A rival is `_learn`, which takes parameters from train, and `_scores`, which sorts all items
    for events, given everything with a strictly earlier timestamp. The rest is here: reading,
    the family, candidates, ranks, slates and probabilities. To write one:

        class Newest(Baseline[None]):
            def _learn(self, past, run):
                return None

            def _scores(self, learned, timeline, part):
                order = np.arange(timeline.n_items, dtype=np.float32)
                return np.broadcast_to(order, (len(part), timeline.n_items))

    Args:
        config: of it, the family of outcomes (`emission`, `positive_threshold`) matters.
        encoder: turns item texts into vectors, as for `InterestModel`; asked only by rivals that
            use texts.
    """

    families: ClassVar[tuple[str, ...]] = ("bernoulli", "choice", "rating")
    """Families that the rival can be fitted to."""
    holds_back: ClassVar[bool] = False
    """True where `_learn` fits to train events, so that the link needs events it has not seen:
    the rival is then learned twice, before the last part of train and on all of it."""

    def __init__(self, config: ModelConfig | None = None, encoder: Encoder | None = None) -> None:
        self.config = config or ModelConfig()
        self.encoder: Encoder = encoder or TextEncoder()
        self._fit: Fitted[Learned] | None = None

    # ------------------------------------------------------------ what a rival is

    @abstractmethod
    def _learn(self, past: Timeline, run: FitConfig) -> Learned:
        """Parameters from train, as a value: `self` stays as it is."""

    @abstractmethod
    def _scores(self, learned: Learned, timeline: Timeline, part: np.ndarray) -> np.ndarray:
        """What the ranking sorts by, (event, item) float32, higher is better.

        `part` holds positions in `timeline`, in order of time, of events that may lie in train,
        in test, or be empty moments. The row of event `e` may use what the log holds with a
        timestamp strictly before that of `e`, and the user; not the event's item or outcome.
        NaN counts as minus infinity: below everything. A row without a finite score says nothing:
        all items are alike.
        """

    def _link(self, learned: Learned, past: Timeline, part: np.ndarray) -> Link:
        """From scores to probabilities, learned on late events of train in order of time.

        By default a softmax with the best scale for choice, else a logistic curve.
        """
        if past.emission == "choice":
            some = evenly(part, MAX_CHOICES)
            return Softmax.fit(self._scored(learned, past, some))
        some = evenly(part, MAX_CURVE)
        own = [own for _, own in self._scored(learned, past, some)]
        return LogisticCurve.fit(np.concatenate(own).astype(np.float64), past.positive[some])

    # ------------------------------------------------------------ what people call

    @property
    def fitted(self) -> Fitted[Learned]:
        """The fit. Raises NotFittedError before `fit`."""
        if self._fit is None:
            name = type(self).__name__
            raise NotFittedError(f"this {name} is not fitted yet: call fit(events, items) first")
        return self._fit

    def fit(
        self, events: object, items: object | None = None, config: FitConfig | None = None
    ) -> Self:
        """Learn from a log (anything `read_events` takes) and an item table; returns self.

        A second fit forgets the first. Of `config` the seed, the device and the progress bar
        count, and for trained networks `max_epochs`, `holdout`, `patience` and `refit`. Raises
        EventError, ItemError, ConfigError, DeviceError or EncoderError, and leaves an earlier fit
        as it was.
        """
        log = read_events(events)
        table = None if items is None else read_items(items)
        run = config or FitConfig()
        known = Known.of(log, table, self.encoder, self.config, run.progress)
        family = known.config.emission
        if family not in self.families:
            raise ConfigError(
                f"{type(self).__name__} is for {' or '.join(self.families)} outcomes; this log "
                f'is taken as emission="{family}" ({known.reason})'
            )
        learned, link = self._learn_all(known.timeline(), run)
        self._fit = Fitted(known, learned, link)
        return self

    def score_events(
        self,
        events: object,
        items: object | None = None,
        exclude_seen: bool = True,
        *,
        k: int | None = None,
    ) -> pd.DataFrame:
        """Predict every event from what came strictly before it; the rival stays as it is.

        Evidence is train and the earlier events of this log. Rows in the caller's order with the
        caller's index: user_id, item_id, timestamp, mean (interest probability: bernoulli
        P(engaged), rating P(rating >= the threshold's level), choice P(this item among all known
        items); NaN where the rival has none), log_prob (of the outcome; missing for ratings and
        for what was not chosen), rank (of the item among all known items that the user has not
        seen, 1 is first, ties count against it; with `exclude_seen=False` among all). With `k`
        also slate: the list of the k best item ids just before the event, without those seen.

        Known items are those of train, of its item table, of `items` and of this log. Raises
        NotFittedError, EventError, ItemError or InputError.
        """
        fit = self.fitted
        if k is not None:
            check_k(k)
        table = None if items is None else read_items(items)
        log = read_events(events)
        known = fit.known.widened(log, table)
        timeline = known.timeline_with(log)
        part = timeline.in_time_order(np.flatnonzero(timeline.is_test))
        found = [
            self._score_block(timeline, block, exclude_seen, k)
            for block in blocks(part, timeline.n_items)
        ]
        chance, rank = (np.concatenate([row[at] for row in found]) for at in (0, 1))
        columns = {MEAN: chance, LOG_PROB: outcome_log_prob(timeline, part, chance), RANK: rank}
        scores = pd.DataFrame(columns)
        if k is not None:
            ids = known.catalogue.ids
            scores[SLATE] = [ids[slate].tolist() for row in found for slate in row[2]]
        scores.index = pd.Index(timeline.history.order[part] - len(fit.known.history))
        return in_callers_order(log, scores)

    def rank(
        self,
        users: Iterable[Any] | None = None,
        k: int = 10,
        at: object = None,
        candidates: Iterable[Any] | None = None,
        exclude_seen: bool = True,
    ) -> pd.DataFrame:
        """Slates from all of train: user_id, rank, item_id, score, mean.

        `None` takes all users and known items. `at` is a time not before the end of train, which
        is the default. `score` is what the rival sorts by; `mean` is as in `score_events`: for
        choice among all known items. Unknown users have no events; an unknown item is an
        ItemError. Fewer than k rows where fewer items are allowed; equal scores keep the order in
        which the items were met.
        """
        fit = self.fitted
        check_k(k)
        wanted = listed(users, "users")
        if wanted is None:
            wanted = fit.known.vocabulary.users.ids.tolist()
        known = fit.known.with_users(np.array(wanted, dtype=object))
        who = known.vocabulary.users.index_of(wanted)
        allowed = find_items(known, candidates)
        timeline = known.timeline_at(np.unique(who), moment_after(fit.known, at))
        rows: dict[int, pd.DataFrame] = {}
        for block in blocks(np.flatnonzero(timeline.is_test), timeline.n_items):
            rows.update(self._slates(timeline, block, k, allowed, exclude_seen))
        tables = [rows[user] for user in who.tolist()]
        if not tables:
            return pd.DataFrame({name: [] for name in (USER_ID, RANK, ITEM_ID, SCORE, MEAN)})
        out = pd.concat(tables, ignore_index=True)
        out.insert(0, USER_ID, np.repeat(known.vocabulary.users.ids[who], [len(t) for t in tables]))
        return out

    def __repr__(self) -> str:
        if self._fit is None:
            return f"{type(self).__name__}(not fitted)"
        known = self._fit.known
        return (
            f"{type(self).__name__}({known.config.emission}, {len(known.vocabulary.users):,} "
            f"users, {len(known.catalogue):,} items, {len(known.history):,} events)"
        )

    # ------------------------------------------------------------ how it is done

    def _learn_all(self, past: Timeline, run: FitConfig) -> tuple[Learned, Link]:
        choice = past.emission == "choice"
        late = past.last_of_train(CHOICE_SHARE if choice else CURVE_SHARE, positive_only=choice)
        late = past.in_time_order(late)
        early = past.before(past.history.seconds[late[0]])
        varied = early.positive.any() and (choice or not early.positive.all())
        if not (self.holds_back and varied):
            learned = self._learn(past, run)
            return learned, self._link(learned, past, late)
        link = self._link(self._learn(early, run), past, late)
        return self._learn(past, run), link

    def _scored(
        self, learned: Learned, timeline: Timeline, part: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Scores (event, item), and those of the events' own items, a block at a time."""
        for block in blocks(part, timeline.n_items):
            scores = np.asarray(self._scores(learned, timeline, block), dtype=np.float32)
            if not np.isfinite(scores).all():
                scores = np.where(np.isnan(scores), np.float32(-np.inf), scores)
                scores[~np.isfinite(scores).any(1)] = 0.0
            yield scores, scores[np.arange(len(block)), timeline.history.item_index[block]]

    def _score_block(
        self, timeline: Timeline, block: np.ndarray, exclude_seen: bool, k: int | None
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Probabilities, ranks and slates (item positions) of the events of one block."""
        fit = self.fitted
        ((scores, own),) = self._scored(fit.learned, timeline, block)
        row, item = np.arange(len(block)), timeline.history.item_index[block]
        competes = scores >= own[:, None]
        competes[row, item] = False
        seen = timeline.seen(block) if exclude_seen else None
        if seen is not None:
            competes[seen] = False
        chance = fit.link.chances(scores, own[:, None])[:, 0]
        slates = []
        if k is not None:
            allowed = np.ones_like(competes)
            if seen is not None:
                allowed[seen] = False
            slates = best(scores, allowed, k)
        return chance, 1 + competes.sum(1), slates

    def _slates(
        self,
        timeline: Timeline,
        block: np.ndarray,
        k: int,
        candidates: np.ndarray,
        exclude_seen: bool,
    ) -> dict[int, pd.DataFrame]:
        """rank, item_id, score, mean of the best candidates, by user position."""
        fit = self.fitted
        ((scores, _),) = self._scored(fit.learned, timeline, block)
        allowed = np.zeros(scores.shape, dtype=bool)
        allowed[:, candidates] = True
        if exclude_seen:
            allowed[timeline.seen(block)] = False
        tables = {}
        for row, items in enumerate(best(scores, allowed, k)):
            own = scores[row : row + 1, items]
            tables[int(timeline.history.user_index[block[row]])] = pd.DataFrame(
                {
                    RANK: np.arange(1, len(items) + 1),
                    ITEM_ID: timeline.catalogue.ids[items],
                    SCORE: own[0].astype(np.float64),
                    MEAN: fit.link.chances(scores[row : row + 1], own)[0],
                }
            )
        return tables


def blocks(part: np.ndarray, n_items: int) -> Iterator[np.ndarray]:
    """Consecutive parts of `part` whose tables (event, item) have about `CELLS` cells."""
    size = max(1, CELLS // n_items)
    for begin in range(0, len(part), size):
        yield part[begin : begin + size]


def evenly(part: np.ndarray, most: int) -> np.ndarray:
    """At most so many entries, evenly spread, in their order."""
    some: np.ndarray = part[np.linspace(0, len(part) - 1, min(len(part), most)).astype(np.int64)]
    return some


def best(scores: np.ndarray, allowed: np.ndarray, k: int) -> list[np.ndarray]:
    """Positions of the k best allowed items of each row, best first; ties in order of position."""
    masked = np.where(allowed, scores, -np.inf)
    k = min(k, masked.shape[1])
    edge = np.partition(masked, -k, axis=1)[:, -k, None]
    above, level = masked > edge, masked == edge
    keep = above | (level & (np.cumsum(level, axis=1) <= k - above.sum(1, keepdims=True)))
    items = np.nonzero(keep)[1].reshape(-1, k)
    values = np.take_along_axis(masked, items, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    ok = np.take_along_axis(allowed, ordered, axis=1)
    return [row[use] for row, use in zip(ordered, ok, strict=True)]


def outcome_log_prob(timeline: Timeline, part: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Log probability of what happened; NaN for ratings and for what was not chosen."""
    positive = timeline.positive[part]
    if timeline.emission == "rating":
        return np.full(len(part), np.nan)
    if timeline.emission == "choice":
        return np.where(positive, np.log(np.maximum(chance, LEAST)), np.nan)
    return np.log(np.maximum(np.where(positive, chance, 1.0 - chance), LEAST))


def in_callers_order(log: EventLog, scores: pd.DataFrame) -> pd.DataFrame:
    """Scores indexed by position in `log.frame`, with its ids, in the order of the source."""
    identity = log.frame[[USER_ID, ITEM_ID, TIMESTAMP]].reset_index(drop=True)
    out = pd.concat((identity, scores.sort_index()), axis=1)
    out.index = pd.Index(log.row)
    return out.sort_index()


def check_k(k: int) -> None:
    """A slate has at least one place."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k={k!r}: expected a whole number >= 1")


def check_option(name: str, value: object, good: bool, wanted: str) -> None:
    """Raises ConfigError where a hyperparameter is impossible."""
    if not good:
        raise ConfigError(f"{name}={value!r}: expected {wanted}")


def find_items(known: Known, candidates: Iterable[Any] | None) -> np.ndarray:
    """Positions of candidates. Raises ItemError for an unknown one."""
    wanted = listed(candidates, "candidates")
    if wanted is None:
        return np.arange(len(known.catalogue))
    found = known.vocabulary.items.index_of(wanted)
    if (found < 0).any():
        at = int(np.flatnonzero(found < 0)[0])
        raise ItemError(f"item {wanted[at]!r} of candidates is unknown: it was not in fit")
    return found


def moment_after(known: Known, at: object) -> float:
    """`at` in seconds, moved just behind the last event of train where it would tie with it."""
    last = float(known.history.seconds.max())
    seconds = last if at is None else moment_seconds(at)
    if seconds < last:
        raise TimeOrderError(
            f"at={seconds:.0f} s lies before the last event of the fit at {last:.0f} s"
        )
    return seconds if seconds > last else float(np.nextafter(last, np.inf))
