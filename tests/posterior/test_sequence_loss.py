"""The held-back loss of a context by itself, against the network run user by user."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bayes_interest.model.context import Tokens, context_of_steps
from bayes_interest.posterior import online
from bayes_interest.posterior.online import restarted, sequence_loss
from bayes_interest.schema import SECONDS_PER_DAY
from tests.fitted import loud


@pytest.mark.parametrize("cells", [12_000_000, 120])
def test_it_is_that_of_the_network_user_by_user(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "SEQUENCE_CELLS", cells)
    fitted = loud("choice").posterior
    posterior, log, items = restarted(fitted), fitted.history, fitted.items
    losses = []
    for user in range(log.n_users):
        own = slice(*log.start[user : user + 2])
        item = torch.as_tensor(log.item_index[own])[None].long()
        if not item.shape[1]:
            continue
        days = np.diff(log.seconds[own], prepend=log.seconds[own][0]) / SECONDS_PER_DAY
        kind = torch.as_tensor(log.kind_index[own])[None].long()
        tokens = Tokens(item, item.float(), kind, torch.as_tensor(days).float()[None])
        context = context_of_steps(posterior.layout, posterior.values, items.vectors, tokens)[0]
        table = torch.log_softmax(context @ items.vectors.T + items.offsets, 1)
        losses.append(-table[range(item.shape[1]), item[0]])
    each = torch.cat(losses)
    count = min(len(each), cells // posterior.layout.n_items)
    part = np.unique(np.linspace(0, len(each) - 1, count).astype(int))
    assert sequence_loss(posterior, log) == pytest.approx(float(each[part].mean()), abs=1e-4)
    if count < len(each):
        assert abs(float(each[part].mean() - each.mean())) > 1e-3
