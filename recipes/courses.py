"""Courses: grades from 1 to 5 after each lesson. P(4 or better), and which of two suits better."""

import numpy as np
import pandas as pd

import bayes_interest as bi

LESSONS = {
    "statistics": ["what a mean hides", "drawing samples", "reading an interval", "two groups"],
    "drawing": ["lines and weight", "light on a jug", "hands in a minute", "street corners"],
    "italian": ["ordering coffee", "the past tense", "a letter home", "market talk"],
}
rng = np.random.default_rng(5)
items = pd.DataFrame(
    [(f"{c}-{n}", f"{c}: {text}") for c, texts in LESSONS.items() for n, text in enumerate(texts)],
    columns=["item_id", "text"],
)
course = items["item_id"].str.split("-").str[0].to_numpy()


def grades(learner: int, n: int = 25) -> pd.DataFrame:
    """Learners like one course best; a grade is liking, cut into five levels."""
    taken = rng.integers(len(items), size=n)
    liking = np.where(course[taken] == list(LESSONS)[learner % 3], 1.5, -0.5) + rng.logistic(size=n)
    when = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.sort(rng.random(n)) * 90, "D")
    return pd.DataFrame(
        {
            "user_id": f"learner-{learner:02d}",
            "item_id": items["item_id"].to_numpy()[taken],
            "timestamp": when,
            "value": 1.0 + np.digitize(liking, [-1.5, -0.5, 0.5, 1.5]),
        }
    )


log = pd.concat([grades(n) for n in range(36)])
config = bi.ModelConfig(emission="rating", positive_threshold=4, state_dim=3)
model = bi.InterestModel(config, bi.HashingEncoder(32))
run = bi.FitConfig(max_epochs=25, holdout=0.0, n_members=1, progress=False)
model.fit(log, items, run)

# `mean` is P(grade >= 4); the expected grade stands beside it.
asked = model.interest(["learner-00"], ["statistics-2", "drawing-1"])
print(asked[["item_id", "mean", "lower", "upper", "expected_rating"]].round(2))

# Each level's probability, one step ahead, for the learner's next lesson:
lesson = grades(0, 1).assign(timestamp=pd.Timestamp("2026-04-02", tz="UTC"))
levels = model.score_events(lesson, detail=True).filter(like="p_level=")
print(levels.round(2))

# Their intervals overlap, and still it may be clear which suits better.
pair = model.compare_items(["learner-00"], pairs=[("statistics-2", "drawing-1")])
print(pair[["item_id", "other_item_id", "probability"]].round(3))
