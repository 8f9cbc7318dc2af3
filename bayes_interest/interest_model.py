"""The thin door: what people call. No maths lives here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.errors import NotFittedError
from bayes_interest.evaluation.diagnose import diagnose
from bayes_interest.events.read import read_events, read_items
from bayes_interest.html_table import html_table
from bayes_interest.posterior import answers
from bayes_interest.posterior.catalogue_map import MapMethod, catalogue_map
from bayes_interest.posterior.changes import changes
from bayes_interest.posterior.describe import facts
from bayes_interest.posterior.interest import interest, trajectory
from bayes_interest.posterior.learn import learn
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.posterior.probability_map import MethodName
from bayes_interest.posterior.recalibration import recalibrated
from bayes_interest.posterior.storage import load_posterior, save_posterior
from bayes_interest.posterior.stream import InterestStream
from bayes_interest.posterior.summary import summary
from bayes_interest.ranking.above import ItemsAbove, items_above
from bayes_interest.ranking.explain import Explanation, explain
from bayes_interest.ranking.pairs import compare_items
from bayes_interest.ranking.population import population
from bayes_interest.ranking.recommend import recommend
from bayes_interest.report.arviz_export import to_arviz
from bayes_interest.text.encoder import Encoder, TextEncoder, encoder_from_spec


class InterestModel:
    """Each user's changing interests, learned from a log and item texts, with uncertainty.

    Args:
        config: what the model is; the default chooses the family from the data.
        encoder: turns item texts into vectors: `TextEncoder` (the default), `HashingEncoder`, or
            `PrecomputedVectors`.
    """

    def __init__(self, config: ModelConfig | None = None, encoder: Encoder | None = None) -> None:
        self.config = config or ModelConfig()
        self.encoder: Encoder = encoder or TextEncoder()
        self._posterior: Posterior | None = None

    @property
    def posterior(self) -> Posterior:
        """The fitted state of the model. Raises NotFittedError before `fit`."""
        if self._posterior is None:
            raise NotFittedError("this model is not fitted yet: call fit(events, items) first")
        return self._posterior

    def fit(
        self, events: object, items: object | None = None, config: FitConfig | None = None
    ) -> InterestModel:
        """Learn from a log (anything `read_events` takes) and item texts; returns self.

        A second fit forgets the first. Items without text are known by their events alone. Items
        without an event are new; of `choice`, `items` are what is on offer, and those that nobody
        took make new ones less likely: leave out what came only after the log.
        Raises EventError, ItemError, ConfigError, DeviceError or EncoderError, and leaves an
        earlier fit as it was.
        """
        log = read_events(events)
        table = None if items is None else read_items(items)
        run = config or FitConfig()
        self._posterior = learn(log, table, self.encoder, self.config, run)
        return self

    def fit_report(self) -> pd.DataFrame:
        """One row per epoch: loss, held-back loss, seconds. `attrs` holds family, reason, notes."""
        return answers.fit_report(self.posterior)

    def interest(
        self,
        users: Iterable[Any] | None = None,
        items: Iterable[Any] | None = None,
        at: object = None,
        prob: float = 0.9,
        n_draws: int = 400,
        *,
        themes: Mapping[str, object] | None = None,
        raw: bool = False,
    ) -> pd.DataFrame:
        """Interest probabilities: user_id, item_id (or theme), mean, sd, lower, upper.

        `None` takes all users or items. `at` is a time not before the users' last events, by
        default the latest the model has absorbed. What the probability means: bernoulli P(engaged,
        given shown); rating P(rating >= the threshold's level), with `expected_rating` beside it;
        choice P(the next choice is this item, among all known items), from `n_draws` joint draws.
        `mean` is its posterior mean, `lower` and `upper` bound its equal-tailed interval of mass
        `prob`. Unknown users are at the prior; an unknown item is an ItemError. `raw` leaves out
        what `recalibrate` has learned.

        `themes` instead of `items`: name to item ids, to a text, or to a vector as the encoder
        makes them. Of items: their mean probability, as of one picked at random, and for choice
        P(the next choice is one of them), with the interval of their joint posterior (by `n_draws`
        joint draws where there are several). Of a text or vector: of an item that reads so and
        that nobody has met. See `themes_by_column`, `themes_between` and `discover_themes`.
        """
        return interest(self._answering(raw), users, items, at, prob, n_draws, themes, self.encoder)

    def rank(
        self,
        users: Iterable[Any] | None = None,
        k: int = 10,
        by: str = "mean",
        at: object = None,
        candidates: Iterable[Any] | None = None,
        exclude_seen: bool = True,
        prob: float = 0.9,
        n_draws: int = 200,
        seed: int = 0,
        *,
        looks: int | None = None,
        rank_intervals: bool = False,
        abstain: float | None = None,
        fallback: str | Iterable[Any] = "popular",
        exploration: float = 1.0,
        raw: bool = False,
    ) -> pd.DataFrame:
        """Slates: user_id, rank, item_id, score, mean, sd, lower, upper, p_top_k.

        `by` is "mean", "lower" (careful), "upper" (curious), "thompson" (one joint draw, by
        `seed`), "p_top_k" (probability of being among the k best) or "diverse" (items that
        together make it likeliest that at least one is engaged with in `looks` looks at the
        slate, by default one, for choice the next ten choices; the score is what an item adds).
        For choice the probabilities are among the candidates allowed for the user. Fewer than k
        rows where fewer are allowed. `exploration` multiplies a thompson draw's distance from the
        mean: 1 is Thompson sampling, 0 ranks by the mean; in a loop of fewer rounds than it takes
        to know all items, less than 1 loses less (posterior reshaping; Chapelle & Li 2011).

        `rank_intervals` adds expected_rank, rank_lower and rank_upper: the entry's rank among the
        allowed candidates in the joint draws, and whole ranks that hold it with mass `prob`.

        `abstain` adds slate_certainty, the expected share of the user's own slate that is truly
        among the k best (the mean of its p_top_k), and basis: "own interest", or for users whose
        certainty is below `abstain` the fallback, whose items they get: "popular" (the ranking of
        somebody without events, scored so) or given item ids, best first ("list"). mean to
        p_top_k stay the user's own. With 0 the figure is shown and nobody falls back.

        `n_draws` joint draws of every item give p_top_k and all that needs them. With `n_draws=0`,
        by "mean", "lower" or "upper" of bernoulli and rating, there are none and no p_top_k: the
        same slates and intervals at about the price of ranking by a product of vectors. Both look
        closely at few items only, for user lists of any size, if the model has no draws of the
        globals and all users are asked about at one time (`ranking/shortlist.py`); draws take 4
        bytes each for every item. "diverse", `rank_intervals` and `exploration` need every draw of
        every item.

        `raw` leaves out what `recalibrate` has learned.
        """
        return recommend(
            self._answering(raw), users, k, by, at, candidates, exclude_seen, prob, n_draws, seed,
            looks=looks, rank_intervals=rank_intervals, abstain=abstain, fallback=fallback,
            exploration=exploration,
        )  # fmt: skip

    def compare_items(
        self,
        users: Iterable[Any] | None = None,
        items: Iterable[Any] | None = None,
        pairs: Iterable[Sequence[Any]] | None = None,
        at: object = None,
        prob: float = 0.9,
    ) -> pd.DataFrame:
        """Is a user more interested in one item than in another, and how sure is that?

        `items` compares all of them with each other, `pairs` given (item, other) ids. Rows:
        user_id, item_id, other_item_id, probability (that the interest in item_id is the higher),
        mean, sd, lower, upper (of the difference of their predictors, in logits). From the joint
        posterior of both: what is uncertain of the user counts only where the items differ. Exact
        for every family, for the predictors are Gaussian and order the probabilities.
        """
        return compare_items(self.posterior, users, items, pairs, at, prob)

    def above(
        self,
        users: Iterable[Any] | None = None,
        p: float = 0.5,
        c: float = 0.9,
        at: object = None,
        candidates: Iterable[Any] | None = None,
        exclude_seen: bool = True,
        prob: float = 0.9,
        n_draws: int = 400,
        seed: int = 0,
    ) -> ItemsAbove:
        """All items with P(interest probability > p) >= c: a list that may be empty.

        Returns `.items` (user_id, item_id, probability, mean, sd, lower, upper) and `.users` (a
        row per user: n_items, n_candidates, the nearest item with its probability, and why the
        list is empty where it is). Exact for bernoulli and rating; for choice, where probabilities
        are among the candidates and small, from `n_draws` joint draws.
        """
        return items_above(
            self.posterior, users, p, c, at, candidates, exclude_seen, prob, n_draws, seed
        )

    def explain(
        self,
        user_id: Any,
        item_id: Any,
        at: object = None,
        prob: float = 0.9,
        n_next: int = 5,
        seed: int = 0,
        *,
        candidates: Iterable[Any] | None = None,
        labels: Mapping[Any, str] | None = None,
    ) -> Explanation:
        """Why is this user's interest in this item what it is, and what would make it surer?

        Returns `.contributions` (each past event and each other part of the score, in logits; they
        sum to `.score`), `.uncertainty` (parts of the variance), `.next_observations` (the `n_next`
        events that would lower it most) and `.text`, a paragraph in plain words; `plot_explanation`
        draws it. The interest probability is that of `interest`, a choice's from joint draws by
        `seed` (0 are its own). `candidates` for the next observation are by default the items that
        the user has not met; `labels` (item_id to title) are for the text.

        An event's contribution is its part of the user's state (see `posterior/attribution.py`) and
        what the user's running rates, repeats, successions and likenesses would lose without it.
        Unknown users are at the prior; an unknown item is an ItemError, a moment before the user's
        last event a TimeOrderError.
        """
        return explain(self.posterior, user_id, item_id, at, prob, n_next, seed, candidates, labels)

    def changes(
        self,
        users: Iterable[Any] | None = None,
        items: Iterable[Any] | None = None,
        since: object = None,
        at: object = None,
        prob: float = 0.9,
        *,
        themes: Mapping[str, object] | None = None,
        top: int | None = None,
        n_draws: int = 400,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Has a user's interest risen or fallen since a date?

        Rows: user_id, item_id (or theme), since, at, change, lower, upper, probability_change,
        p_risen, p_fallen. `change` is that of the predictor (logits), for choice of the log
        probability among all items (by `n_draws` joint draws); `lower` and `upper` hold it with
        mass `prob`. From the joint posterior of both moments given all events. Only the user's
        interest moves: popularity and the like are held at their value at `at`, by default the
        latest absorbed event. Smoothed: never use it to score the past. Before a user's first
        event, and for unknown users, there is the walk alone, run backwards: the predictor's
        change has mean zero there. Choices smooth each user over all items: with thousands of
        items that takes some seconds per user.

        `themes` instead of `items`: name to item ids (their mean), to a text, or to a vector as
        the encoder makes them. `top` keeps the largest credible changes over all users: those
        whose interval leaves out zero, by its inner end; there may be none.
        """
        return changes(
            self.posterior, users, items, themes, since, at, prob, top, n_draws, seed, self.encoder
        )

    def trajectory(
        self,
        users: Iterable[Any],
        items: Iterable[Any] | None = None,
        every_days: float | None = None,
        prob: float = 0.9,
        *,
        themes: Mapping[str, object] | None = None,
        raw: bool = False,
    ) -> pd.DataFrame:
        """Interest over time given all events: user_id, item_id (or theme), timestamp, mean, ...

        At each of the user's events, or on a grid of `every_days`. Smoothed: never use it to
        score the past. `themes` instead of `items` as in `interest`. `raw` leaves out what
        `recalibrate` has learned.
        """
        return trajectory(
            self._answering(raw), users, items, every_days, prob, themes=themes,
            encoder=self.encoder,
        )  # fmt: skip

    def population(
        self,
        users: Iterable[Any] | None = None,
        at: object = None,
        k: int = 10,
        n_draws: int = 200,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Who is known well, and who drifts? A row per user.

        Columns: user_id, n_events, first_event, last_event, slate_certainty (of the `k` best of
        all items, see `rank`; by `n_draws` joint draws), mean_sd (mean over all items of the sd of
        the predictor, in logits) and drifted: root mean square over all items of the change of the
        predictor from the user's first event to the last, smoothed, in logits; that of the state,
        without popularity and the like, for choice less what is common to all items. 0 with fewer
        than two events. What is believed moved least where least is known.
        """
        return population(self.posterior, users, at, k, n_draws, seed)

    def catalogue_map(
        self,
        user: Any = None,
        at: object = None,
        prob: float = 0.9,
        method: MapMethod = "auto",
        seed: int = 0,
    ) -> pd.DataFrame:
        """The items in two dimensions: item_id, x, y, n_events; with a user mean, lower, upper.

        Near each other lie items that the same people are drawn to (directions of the item
        vectors). "tsne" (van der Maaten and Hinton 2008, scikit-learn) keeps neighbours and
        takes minutes for thousands of items, "pca" is quick and keeps large distances; "auto" is
        t-SNE up to 2,000 items. The interest of the user is as in `interest`.
        """
        return catalogue_map(self.posterior, user, at, prob, method, seed)

    def update(
        self, events: object, items: object | None = None, *, learn_items: bool = False
    ) -> InterestModel:
        """Absorb new events, one filter step each; globals stay. Returns self.

        New users start at the prior. New items need a text (in `items` or the events) or are an
        ItemError. Events before a user's last absorbed one are a TimeOrderError. Nothing changes
        on an error. In any split of the new events (in time order) the result is the same.

        With `learn_items` (bernoulli, rating) events teach about items as well: residual and offset
        move and grow surer, most of all those of new items, as if user and item were independent
        of each other before the event. Events of all users are then taken in order of time. Items
        that the fit drew together with all globals (`n_members`) stay as they were drawn.

        What was shown and ignored: to bernoulli an event of value 0, to rating a low level; a
        dislike says more than an ignored impression where `kind` tells them apart and the log
        taught the model to trust it more. choice learns from what was chosen only: an event below
        `positive_threshold` counts as seen and changes no interest. To learn from impressions, fit
        bernoulli on them.
        """
        table = None if items is None else read_items(items)
        log = read_events(events, allow_empty=True)
        self._posterior = answers.update(self.posterior, log, table, self.encoder, learn_items)
        return self

    def stream(self, *, allow_future: bool = False) -> InterestStream[InterestModel]:
        """A stream that absorbs events one at a time, in microseconds, beside this model.

        `stream.observe(user, item, timestamp, value)` forecasts an event and absorbs it;
        `stream.model()` is the model with everything absorbed. `allow_future` takes timestamps more
        than one day after now. For many events at once `update` is quicker.
        """
        return InterestStream(self.posterior, self._with, allow_future)

    def _with(self, posterior: Posterior) -> InterestModel:
        """Another model of the same encoder."""
        model = InterestModel(self.config, self.encoder)
        model._posterior = posterior
        return model

    def recalibrate(
        self,
        events: object | None,
        items: object | None = None,
        method: MethodName = "auto",
        memory: int = 0,
    ) -> InterestModel:
        """Learn a monotone map of probabilities from later events; returns self.

        Every event is predicted one step ahead, as `score_events` does; the map that brings the
        predictions nearest to the outcomes is then part of every answer, of `save`, and of the
        model after `update`, until the next `fit`; `raw=True` and `recalibrate(None)` leave it out.
        The events are not absorbed: `update` with them afterwards. Of the events of former
        recalibrations the last `memory` count, too, as they were predicted then. To judge the map
        take events later than these (`RecalibratedInterest` does so in a backtest).

        Methods: "temperature" divides logits by a number, and is all that a choice allows, there
        for the whole softmax; "platt" moves them, too; "isotonic" is any increasing curve, for
        thousands of events; "identity" changes nothing; "auto" takes the one that, learned from
        the earlier half of the events, predicts the later half best, and learns it from all.

        bernoulli, rating: `mean` is mapped as the probability that it is, bounds with it, and `sd`
        is that of mapped probabilities; the order of items stays, and `compare_items` and the
        `change` of `changes` speak of the raw predictor. rating: P(value >= threshold) is mapped;
        the rating given its side of the threshold keeps its distribution.

        Raises TimeOrderError for events that are not after the latest one absorbed, EventError for
        fewer than 20 or all of one outcome, ConfigError for a method that the family has not; the
        model then stays as it was.
        """
        if events is None:
            self._posterior = replace(self.posterior, recalibration=None)
            return self
        posterior, log = self.posterior, read_events(events)
        table = None if items is None else read_items(items)
        self._posterior = recalibrated(posterior, log, table, self.encoder, method, memory)
        return self

    def _answering(self, raw: bool) -> Posterior:
        return replace(self.posterior, recalibration=None) if raw else self.posterior

    def score_events(
        self,
        events: object,
        items: object | None = None,
        exclude_seen: bool = True,
        prob: float = 0.9,
        n_draws: int = 64,
        *,
        k: int | None = None,
        certainty: bool = False,
        detail: bool = False,
        raw: bool = False,
    ) -> pd.DataFrame:
        """Predict every event from what came before it, then absorb it; the model stays as it is.

        Rows in the caller's order: user_id, item_id, timestamp, mean, sd, lower, upper (interest
        probability just before the event), log_prob (of the outcome; missing where the event is
        no outcome of the family), rank (of the item among all items known to the model that the
        user has not seen, 1 is first, ties count against it; with `exclude_seen=False` among all),
        and with `k` a column `slate`: the k best of those items, best first; with `certainty` also
        slate_certainty, see `rank`, from `n_draws` joint draws (slower for bernoulli and rating),
        and expected_hits, the sum of the slate's mean probabilities (for choice: P(the next choice
        is in the slate), among the items that compete). `raw` leaves out what `recalibrate` has
        learned.

        `detail` adds what `calibration` can use beside: for ratings a column "p_level=..." per
        level, its probability; for choices `p_top`, the probability of the most probable item,
        `top_hit`, whether that was the choice, `p_above`, the mass of items more probable than the
        chosen one, and `p_tied`, that of the chosen one and those exactly as probable.
        """
        table = None if items is None else read_items(items)
        log = read_events(events)
        return answers.score_events(
            self._answering(raw), log, table, self.encoder, exclude_seen, prob, n_draws, k,
            certainty=certainty, detail=detail,
        )  # fmt: skip

    def diagnose(
        self,
        events: object | None = None,
        items: object | None = None,
        n_users: int = 200,
        n_draws: int = 400,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Is this fit to be trusted? check, value, threshold, verdict, meaning, a row per check.

        `verdict` is "good", "look" or "do not trust"; `threshold` bounds what is good. Checks: the
        losses of the epochs; importance weights of the guide's draws towards the exact posterior of
        `n_users` users' states at the fitted globals; left-out events (exact for the guide);
        figures of the log against those of `n_draws` drawn logs (at least 100; fewer for choice
        with many items); whether draws of the globals have settled; drift; and what the log can
        tell. With `events` after those absorbed also their calibration. Uncertainty of items is
        left out. `attrs["absent"]` says which checks have nothing to look at, and why. Raises
        ConfigError for a wrong setting.
        """
        posterior, later = self.posterior, None
        if events is not None:
            table = None if items is None else read_items(items)
            posterior, later = answers.later_history(
                posterior, read_events(events), table, self.encoder
            )
        return diagnose(posterior, later, n_users, n_draws, seed)

    def summary(self, prob: float = 0.9) -> pd.DataFrame:
        """The global parameters: parameter, dimension, mean, sd, lower, upper, unit, meaning.

        One row per number: how fast interest drifts, what people have in common, how far items
        differ, how far kinds of events are to be trusted, cut points of ratings, weights of the
        covariates. Where the fit has drawn a parameter from its posterior, `mean`, `sd` and the
        equal-tailed interval of mass `prob` are over these draws (`attrs["n_draws"]`, 16 as a
        rule: rough); where it is a point, `mean` is that point, and sd, lower and upper are
        missing: its uncertainty is not known. The signs and the order of state dimensions mean
        nothing by themselves.
        """
        return summary(self.posterior, prob)

    def to_arviz(
        self,
        users: Iterable[Any] | None = None,
        items: Iterable[Any] | None = None,
        draws: int = 400,
        seed: int = 0,
        *,
        prior_draws: int = 100,
        only_states: bool = False,
    ) -> Any:
        """Draws for ArviZ: `InferenceData`, or from ArviZ 1 on an xarray `DataTree`.

        Users' events stand in one dimension `event`, whose coordinates user_id, item_id and
        timestamp say whose, of what and when; state dimensions, kinds, covariates and items have
        names, too. One chain of independent draws: ask for `az.summary(kind="stats")`, as r_hat,
        ess and mcse mean nothing here.

        - posterior: `state` (event, state_dim), given all events, and jointly along each user's
          path; `interest` (event, item), probabilities of `items` just after each event, as
          `trajectory` has them; and the global parameters of `summary` that are drawn. Those that
          are points stand in constant_data. In a recalibrated model every draw of `interest` is
          mapped: bounds are those of `trajectory`, whose mean is the mapped mean instead.
        - log_likelihood: `outcome` (event), for `az.loo`; posterior_predictive and observed_data
          have the same name: ratings in their own units, a choice as the position of the item in
          constant_data's choosable_item_id. All of the model as it was fitted.
        - prior, prior_predictive: the same from `prior_draws` draws of the Pyro program's prior
          (0: none); covariates and context stay those of the log.
        - constant_data: elapsed_days, event_kind, and points.

        `only_states` keeps items and globals at their best values: then `az.loo` answers what
        the left-out loss of `diagnose` does (that is exact for the guide, this from draws).
        Otherwise what is uncertain of items and globals counts, too.

        `users` by default all with events; without `items` there is no `interest`. Raises
        InputError for users without events, for more than half a gigabyte or about a minute of
        work, and where ArviZ is missing; ItemError for an unknown item; ConfigError for wrong
        numbers.
        """
        return to_arviz(self.posterior, users, items, draws, seed, prior_draws, only_states)

    def save(self, folder: str | Path) -> None:
        """Write the model to a folder; an earlier model there stays whole until this one is."""
        save_posterior(self.posterior, folder)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str = "cpu",
        encoder: Encoder | None = None,
        *,
        verify: bool | None = None,
    ) -> InterestModel:
        """Read a saved model. Its encoder is rebuilt from the folder when a new text needs it.

        Files over 64 MiB are mapped into memory: states and history are read as they are asked for,
        and checked by their size alone; `verify=True` reads all of them and compares checksums,
        `verify=False` compares none. Nothing done to the model changes the files.
        """
        posterior = load_posterior(folder, device, verify)
        if encoder is None and posterior.encoder_spec is not None:
            encoder = encoder_from_spec(posterior.encoder_spec)
        model = cls(posterior.config, encoder)
        model._posterior = posterior
        return model

    def __repr__(self) -> str:
        if self._posterior is None:
            return f"InterestModel({self.config.emission}, {self.encoder!r}, not fitted)"
        known = self._posterior.vocabulary
        mapped = self._posterior.recalibration
        more = "" if mapped is None else f", recalibrated by {mapped.method}"
        return (
            f"InterestModel({self._posterior.config.emission}, {len(known.users):,} users, "
            f"{len(known.items):,} items, {len(self._posterior.history):,} events{more})"
        )

    def _repr_html_(self) -> str:
        """What the model is, for notebooks."""
        encoder = repr(self.encoder)
        if self._posterior is None:
            about = {"family": self.config.emission, "encoder": encoder}
            return html_table("InterestModel, not fitted", about)
        return html_table("InterestModel", facts(self._posterior) | {"encoder": encoder})
