"""News: this morning's stories have no readers yet, so they are ranked by their text."""

import numpy as np
import pandas as pd

import bayes_interest as bi

WORDS = {
    "football": "match goal striker league coach stadium penalty transfer".split(),
    "climate": "emissions heatwave glacier energy wind solar flood carbon".split(),
    "markets": "shares interest rates bank inflation bonds trade profits".split(),
}
rng = np.random.default_rng(3)


def stories(day: int, per_desk: int = 4) -> pd.DataFrame:
    """Each day's own items: the desk and six of its words."""
    return pd.DataFrame(
        [
            (f"d{day:02d}-{desk}-{n}", f"{desk} {' '.join(rng.choice(words, 6, replace=False))}")
            for desk, words in WORDS.items()
            for n in range(per_desk)
        ],
        columns=["item_id", "text"],
    )


def reading(table: pd.DataFrame, day: int, n_readers: int = 45) -> pd.DataFrame:
    """Every reader is shown four of the day's stories."""
    rows = []
    for reader in range(n_readers):
        for item in rng.choice(table["item_id"], 4, replace=False):
            opened = rng.random() < (0.75 if list(WORDS)[reader % 3] in item else 0.1)
            when = pd.Timestamp("2026-04-01", tz="UTC") + pd.Timedelta(days=day, hours=reader % 24)
            rows.append((f"reader-{reader:02d}", item, when, float(opened)))
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "value"])


days = [stories(day) for day in range(12)]
log = pd.concat([reading(table, day) for day, table in enumerate(days)])

# News is read once: what an item has of its own matters less than what its text says.
model = bi.InterestModel(bi.ModelConfig(state_dim=3), bi.HashingEncoder(64))
run = bi.FitConfig(max_epochs=15, holdout=0.0, n_members=1, progress=False)
model.fit(log, pd.concat(days), run)

fresh = stories(12)
model.update(log.iloc[:0], fresh)  # no event of them yet: known by text alone
slate = model.rank(["reader-00"], k=5, candidates=fresh["item_id"], by="mean")
print(slate[["item_id", "mean", "lower", "upper", "p_top_k"]].round(2))

# Judged before it is absorbed: the new day is predicted from texts and from the days before.
today, rate = reading(fresh, 12), log["value"].mean()
loss = -model.score_events(today)["log_prob"].mean()
by_rate = -np.log(np.where(today["value"] > 0, rate, 1.0 - rate)).mean()
print(f"log loss on stories nobody had read: {loss:.3f}, by the average rate alone: {by_rate:.3f}")
