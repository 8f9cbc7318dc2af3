"""A shop: views, carts and purchases in one log, and people who buy the same thing again."""

import numpy as np
import pandas as pd

import bayes_interest as bi

AISLES = {
    "coffee": ["dark roast beans", "filter papers", "oat drink for baristas", "espresso tin"],
    "garden": ["tomato seeds", "clay pots", "peat-free compost", "pruning shears"],
    "paper": ["dotted notebook", "fountain pen ink", "brown envelopes", "drawing pencils"],
}
rng = np.random.default_rng(1)
items = pd.DataFrame(
    [(f"{a}-{n}", f"{a}: {t}") for a, texts in AISLES.items() for n, t in enumerate(texts)],
    columns=["item_id", "text"],
)
aisle = items["item_id"].str.split("-").str[0].to_numpy()


def one_log(n_users: int = 40, n_days: int = 60) -> pd.DataFrame:
    """Everybody has a favourite aisle and one thing in it that runs out every other week."""
    rows = []
    for user in range(n_users):
        own = list(AISLES)[user % 3]
        weight = np.where(aisle == own, 6.0, 1.0)
        staple = items["item_id"][rng.choice(np.flatnonzero(aisle == own))]
        for day in range(0, n_days, 3):
            kind = rng.choice(["view", "cart", "purchase"], p=[0.7, 0.2, 0.1])
            item = items["item_id"][rng.choice(len(items), p=weight / weight.sum())]
            rows.append((user, item, kind, day + rng.random()))
            if day % 14 < 3:
                rows.append((user, staple, "purchase", day + rng.random()))
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "kind", "day"])
    when = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(log.pop("day"), unit="D")
    return log.assign(timestamp=when)


log = one_log()
# Nothing says what was shown and left: the question is which item comes next (choice). Repeats of
# the user's own, popularity and the like are covariates of that family, on by default.
model = bi.InterestModel(bi.ModelConfig(emission="choice", state_dim=3), bi.HashingEncoder(32))
train, later = bi.split_by_time(log, fraction=0.15)
model.fit(train, items, bi.FitConfig(max_epochs=15, progress=False))

# People buy again what they bought: leave seen items in.
slate = model.rank([0], k=4, exclude_seen=False)
print(slate[["item_id", "mean", "lower", "upper", "p_top_k"]].round(3))

scores = model.score_events(later, exclude_seen=False)
scores = scores.merge(later.frame, on=["user_id", "item_id", "timestamp"])
hits = scores.assign(hit=scores["rank"] <= 3).groupby("kind")["hit"]
print("the next item among the first three:", hits.mean().round(2).to_dict())
