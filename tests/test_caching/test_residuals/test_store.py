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


def test_on_the_cpu_a_store_gives_copies_and_counts_what_it_holds():
    store, plain = ResidualStore(on_cpu=True), ResidualStore()
    residual = torch.arange(24.0).view(3, 2, 4)
    rows = torch.tensor([2, 0])
    for one in (store, plain):
        one.put("probe", residual.clone())
        one.put_difference("stack", residual * 2, residual)
        one.put("stack", residual[:2] + 7, rows)
    store.get("stack").zero_()  # a copy, which nothing else sees
    for name in ("probe", "stack"):
        assert torch.equal(store.get(name), plain.get(name))
        assert torch.equal(store.get(name, rows), plain.get(name, rows))
    held = store._residuals["stack"]
    store.put("stack", residual)
    assert store._residuals["stack"] is held, "written in place: no second residual is held"
    assert store.num_bytes() == store.peak_bytes == plain.num_bytes() == 2 * residual.numel() * 4
    store.keep_rows(torch.tensor([1]))
    assert store.get("stack").tolist() == residual[1:2].tolist() and store.num_bytes() == 2 * 8 * 4
