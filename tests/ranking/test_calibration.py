"""Is p_top_k honest? Of what it gives 0.8, four of five are truly among the best."""

from __future__ import annotations

import numpy as np
import pytest

from bayes_interest.config import EmissionName
from bayes_interest.posterior.draws import draw_predictors
from bayes_interest.ranking.asked import each_user
from bayes_interest.ranking.scores import top_k_probability
from tests.drawn import known

K = 3


@pytest.mark.parametrize("emission", ["bernoulli", "choice"])
def test_p_top_k_is_the_share_that_is_truly_in_the_top_k(emission: EmissionName) -> None:
    log, door = known(emission, 60 if emission == "choice" else 90)
    posterior, ids = door.posterior, door.posterior.vocabulary
    truth = log.final_truth.pivot(index="user_id", columns="item_id", values="probability")
    best = truth.loc[ids.users.ids, ids.items.ids].rank(axis=1, ascending=False).to_numpy() <= K
    users, items = np.arange(len(ids.users)), np.arange(len(ids.items))
    said = np.empty(best.shape)
    for asked in each_user(posterior, users, posterior.last_seconds, items, False):
        draws = draw_predictors(posterior, asked.belief, asked.extra, 1000)[0]
        said[asked.row] = top_k_probability(draws, asked.allowed, K).numpy()
    # The width: three standard errors, with the few pairs of a user in a band as one.
    for chance in (0.2, 0.5, 0.8):
        inside = np.abs(said - chance) < 0.1
        count = int(inside.any(1).sum())
        assert count > 20
        width = 3.0 * (chance * (1.0 - chance) / count) ** 0.5
        assert best[inside].mean() == pytest.approx(said[inside].mean(), abs=width)
    sure = said > 0.95
    assert best[sure].mean() > 0.9
    assert best[said < 0.05].mean() < 0.05
