"""What the store holds, and how many bytes that takes."""

from __future__ import annotations

import torch

from opensora_adacache.caching.residuals.store import ResidualStore


def test_rows_and_bytes():
    store = ResidualStore()
    assert "stack" not in store and store.num_bytes() == 0
    after, before = torch.full((3, 2, 4), 5.0), torch.full((3, 2, 4), 2.0)
    store.put_difference("stack", after, before)
    assert store.num_bytes() == store.peak_bytes == 3 * 2 * 4 * 4
    kept = store.get("stack")
    store.put_difference("stack", after + 1, before)
    assert store.get("stack") is kept and kept.eq(4).all(), "written in place: no second residual is held"
    rows = torch.tensor([2, 0])
    store.put_difference("stack", after[:2] + 7, before[:2], rows)
    assert kept[:, 0, 0].tolist() == [10, 4, 10]
    assert store.get("stack", torch.tensor([1])).eq(4).all()
    store.clear()
    assert store.num_bytes() == 0 and store.peak_bytes == 3 * 2 * 4 * 4


def test_nothing_of_the_autograd_graph_is_kept():
    store = ResidualStore()
    x = torch.ones(1, 2, 2, requires_grad=True)
    for factor in (2, 3):
        store.put_difference("stack", x * factor, x)
        store.put("probe", x * factor)
    assert not store.get("stack").requires_grad and not store.get("probe").requires_grad
