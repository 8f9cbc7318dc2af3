"""Networks: the softmax loss against autograd, causality, what they can learn, early stopping."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from bayes_interest.baselines import all_rivals, networks
from bayes_interest.baselines.base import Baseline
from bayes_interest.baselines.networks import SoftmaxLoss
from bayes_interest.baselines.sequence import SequenceRival
from bayes_interest.baselines.training import TEXT_DIM, Projection, held_back_part
from bayes_interest.baselines.windows import windows_before
from bayes_interest.config import FitConfig, ModelConfig
from bayes_interest.evaluation.metrics import ndcg
from bayes_interest.text.hashing import HashingEncoder
from tests.baselines.logs import cut, fit, make_frame

SEQUENCE = ["gru", "lstm", "sasrec"]
SMALL = {"hidden_dim": 16, "max_len": 10, "batch_events": 128}


def test_the_softmax_loss_is_autograds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "LOGIT_CELLS", 3 * 11)  # three rows at a time
    generator = torch.Generator().manual_seed(1)
    shapes = [(13, 5), (11, 5), (11,)]
    mine = [torch.randn(s, generator=generator).double().requires_grad_() for s in shapes]
    slow = [part.detach().clone().requires_grad_() for part in mine]
    target = torch.randint(0, 11, (13,), generator=generator)
    found = SoftmaxLoss.apply(*mine, target)
    wanted = torch.nn.functional.cross_entropy(slow[0] @ slow[1].T + slow[2], target)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    (2.0 * found).backward()
    (2.0 * wanted).backward()
    for first, second in zip(mine, slow, strict=True):
        torch.testing.assert_close(first.grad, second.grad)


@pytest.mark.parametrize("name", SEQUENCE)
def test_a_state_sees_its_past_only(name: str) -> None:
    network = fit("bernoulli", name).fitted.learned
    steps = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(2))
    other = steps.clone()
    other[:, 4:] *= -1.0
    with torch.no_grad():
        first, second = network.reader(steps), network.reader(other)
    torch.testing.assert_close(first[:, :4], second[:, :4])
    assert not torch.allclose(first[:, 4:], second[:, 4:])


@pytest.mark.parametrize("family", ["choice", "bernoulli"])
def test_scores_are_products_with_the_state(family: str) -> None:
    """One event at a time, without padding and without blocks."""
    rival = fit(family, "gru")
    network, timeline = rival.fitted.learned, rival.fitted.known.timeline()
    part = timeline.in_time_order(np.arange(len(timeline.history)))[::7]
    found = rival._scores(network, timeline, part)
    with torch.no_grad():
        items = network.items(timeline)
        for row, event in zip(found, part, strict=True):
            windows = windows_before(timeline, np.array([event]), 7)
            state = network.states(items, windows)[0]
            slow = items @ state + network.offset
            if family == "bernoulli":
                slow = slow + network.level(state)
            np.testing.assert_allclose(row, slow.numpy(), atol=1e-5)


def test_outcomes_of_earlier_events_are_read() -> None:
    _, test = cut(make_frame("bernoulli"))
    flipped = test.copy()
    early = flipped["timestamp"] < flipped["timestamp"].max()
    flipped.loc[early, "value"] = 1.0 - flipped.loc[early, "value"]
    rival = fit("bernoulli", "gru")
    first, second = rival.score_events(test), rival.score_events(flipped)
    last = ~early.to_numpy()
    assert not np.allclose(first["mean"][last], second["mean"][last], rtol=1e-4)


def chains(seed: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """After item i comes i + 1, nine times of ten; users start anywhere."""
    rng = np.random.default_rng(seed)
    n_items, rows = 29, []
    for user in range(41):
        item = int(rng.integers(n_items))
        for step in range(31):
            rows.append((f"u{user:02d}", f"i{item:02d}", 1_600_000_000 + 9_000 * step + user))
            item = (item + 1) % n_items if rng.random() < 0.9 else int(rng.integers(n_items))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    frame = frame.sort_values("timestamp", ignore_index=True)
    return frame.iloc[:1000], frame.iloc[1000:].reset_index(drop=True)


@cache
def on_chains(name: str) -> tuple[float, float]:
    """Log loss and NDCG@10 on the late part."""
    train, test = chains()
    options: dict[str, Any] = {"learning_rate": 0.01, **SMALL} if name in SEQUENCE else {}
    rival = all_rivals("choice")[name](ModelConfig(), HashingEncoder(), **options)
    rival.fit(train, config=FitConfig(max_epochs=15, progress=False, device="cpu"))
    scores = rival.score_events(test, exclude_seen=False)
    return -scores["log_prob"].mean(), ndcg(scores["rank"].to_numpy(), 10)


@pytest.mark.parametrize("name", SEQUENCE)
def test_an_order_of_items_is_learned(name: str) -> None:
    """The best possible log loss is near 0.65; popularity has log 29 = 3.37."""
    loss, quality = on_chains(name)
    flat, low = on_chains("popular_all_time")
    assert loss < flat - 1.0
    assert quality > low + 0.3


def tastes(seed: int = 4) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Users like the items whose vector points their way; train, test, vectors."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(23, 4))
    rows = []
    for user in range(31):
        wish = rng.normal(size=4)
        for step in range(37):
            item = rng.integers(23)
            liked = float(rng.random() < expit(2.0 * vectors[item] @ wish))
            rows.append((f"u{user}", f"i{item}", 1_600_000_000 + 9_000 * step + user, liked))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "value"])
    frame = frame.sort_values("timestamp", ignore_index=True)
    table = pd.DataFrame({"item_id": [f"i{i}" for i in range(23)], "vector": list(vectors)})
    return frame.iloc[:900], frame.iloc[900:].reset_index(drop=True), table


@cache
def on_tastes(name: str, **options: Any) -> float:
    from bayes_interest.text.precomputed import PrecomputedVectors

    train, test, vectors = tastes()
    rival = all_rivals("bernoulli")[name](ModelConfig(), PrecomputedVectors(vectors), **options)
    rival.fit(train, config=FitConfig(max_epochs=40, progress=False, device="cpu"))
    return -float(rival.score_events(test)["log_prob"].mean())


def test_the_strength_network_learns_tastes() -> None:
    """Its product of user and item finds what no bias can."""
    found = on_tastes("interest_strength_net", learning_rate=0.01, batch_events=128)
    assert found < on_tastes("user_item_bias") - 0.05


def test_a_tracker_learns_tastes() -> None:
    options = {"hidden_dim": 16, "learning_rate": 0.01, "batch_events": 128}
    assert on_tastes("gru", **options) < on_tastes("user_item_bias") - 0.03


def test_strengths_are_the_means_and_lie_in_the_unit_interval() -> None:
    rival = fit("bernoulli", "interest_strength_net")
    table = rival.rank(k=11, exclude_seen=False)
    np.testing.assert_allclose(table["mean"], expit(table["score"]), rtol=1e-6)


# ---------------------------------------------------------------- training


def trained(learning_rate: float = 0.01, **run: Any) -> Baseline[Any]:
    rival = all_rivals("choice")["gru"](
        ModelConfig(), HashingEncoder(), learning_rate=learning_rate, **SMALL
    )
    return rival.fit(chains()[0], config=FitConfig(progress=False, device="cpu", **run))


def weights(rival: Baseline[Any]) -> torch.Tensor:
    own: torch.Tensor = rival.fitted.learned.own.detach()
    return own


def test_epochs_holdout_and_refit_have_effects() -> None:
    usual = weights(trained(max_epochs=3))
    assert not torch.equal(usual, weights(trained(max_epochs=2)))
    assert not torch.equal(usual, weights(trained(max_epochs=3, holdout=0.2, refit=False)))
    assert not torch.equal(usual, weights(trained(max_epochs=3, refit=False)))
    # The best epoch is the last, so after the choice of epochs it is the same training.
    assert torch.equal(usual, weights(trained(max_epochs=3, holdout=0)))


def test_patience_bounds_the_search_and_the_best_epoch_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A huge learning rate makes later epochs worse; patience decides how many are tried."""
    slow_loss, losses = SequenceRival._held_back, []

    def watched(*arguments: Any) -> float:
        losses.append(slow_loss(*arguments))
        return losses[-1]

    monkeypatch.setattr(SequenceRival, "_held_back", watched)
    for patience in (1, 3):
        losses.clear()
        rival = trained(0.3, max_epochs=12, patience=patience, refit=False)
        best = int(np.argmin(losses))
        assert best + 1 + patience == len(losses) < 12
        past = rival.fitted.known.timeline()
        late = held_back_part(past, 0.1)
        assert slow_loss(rival, rival.fitted.learned, past, late) == pytest.approx(losses[best])


def test_too_little_to_hold_back_trains_for_all_epochs() -> None:
    timeline = fit("choice", "popular_all_time").fitted.known.timeline()
    assert held_back_part(timeline, 0.0) is None
    assert held_back_part(timeline, 0.01) is None
    assert held_back_part(timeline, 0.5) is not None


def test_the_projection_keeps_the_leading_axes() -> None:
    timeline = fit("choice", "text_cosine").fitted.known.timeline()
    projection = Projection.of(timeline)
    features = projection.apply(timeline).astype(np.float64)
    vectors = timeline.catalogue.vectors.astype(np.float64)
    assert projection.text_dim == vectors.shape[1] <= TEXT_DIM
    assert features.mean(0) == pytest.approx(0.0, abs=1e-6)
    assert (features.var(0, ddof=1)).mean() == pytest.approx(1.0, rel=1e-5)
    cosine = (vectors - vectors.mean(0)) @ (vectors - vectors.mean(0)).T
    np.testing.assert_allclose(
        features @ features.T * cosine[0, 0] / (features[0] @ features[0]), cosine, atol=1e-4
    )


def test_items_without_text_have_no_projection() -> None:
    train, _ = cut(make_frame("choice"))
    rival = all_rivals("choice")["popular_all_time"](
        ModelConfig(emission="choice", positive_threshold=3.0), HashingEncoder()
    ).fit(train, config=FitConfig(progress=False, device="cpu"))
    timeline = rival.fitted.known.timeline()
    assert (Projection.of(timeline).apply(timeline) == 0.0).all()


def test_new_items_have_their_text_alone() -> None:
    rival = fit("choice", "gru")
    network, known = rival.fitted.learned, rival.fitted.known
    test = cut(make_frame("choice"))[1]
    test.loc[test.index[-1], "item_id"] = "fresh"
    from bayes_interest.events.read import read_events

    log = read_events(test)
    timeline = known.widened(log, None).timeline_with(log)
    with torch.no_grad():
        items, offsets = network.items(timeline), network.offsets(timeline.n_items)
    assert (items[-1] == 0.0).all()  # "fresh" has no vector either
    assert offsets[-1] == network.offset.min()
