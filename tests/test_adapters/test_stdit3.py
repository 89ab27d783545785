"""AdaCache on STDiT3: whole runs against the reference implementation, and the guarantees of the session."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import opensora_adacache
from opensora_adacache import AdaCacheConfig, MoRegConfig, apply_cache
from opensora_adacache.adapters.recorder import record_probe
from opensora_adacache.caching.distance import distance_of
from opensora_adacache.caching.timesteps import Timesteps
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.schedulers import RFLOW

DATA = Path(__file__).parents[1] / "data"
RUNS = json.loads((DATA / "sampling_runs.json").read_text())
VECTORS = load_file(DATA / "sampling_runs.safetensors")
CACHED = [name for name, run in RUNS.items() if run["cache"]]
CACHING = str(Path(opensora_adacache.__file__).parent / "caching")
MID = {0.02: 6, 0.05: 5, 0.1: 4, 0.2: 3, 0.3: 2, 1.0: 1}


class RecordedText:
    """The text features of the reference run."""

    def __init__(self, y, mask, null):
        self.y, self.mask, self.embedding = y, mask, null

    def encode(self, prompts):
        return {"y": self.y, "mask": self.mask}

    def null(self, n):
        return self.embedding[None, None].expand(n, 1, -1, -1)


def sample(model, name, rows=None, steps=None, guidance_scale=None):
    """Repeat a recorded run (or some of its rows)."""
    run = RUNS[name]
    z, y, mask = (VECTORS[f"{name}.{key}"] for key in ("z", "y", "text_mask"))
    if rows is not None:
        z, y, mask = z[rows], y[rows], mask[rows]
    text = RecordedText(y, mask, model.y_embedder.y_embedding)
    size = {key: torch.full((len(z),), float(run[key])) for key in ("height", "width", "num_frames", "fps")}
    frame_mask = None if run["mask"] is None else torch.tensor([run["mask"]], dtype=torch.float32)
    if run["mask_seed"] is not None:
        torch.manual_seed(run["mask_seed"])
    sampler = RFLOW(steps or run["steps"], cfg_scale=run["cfg_scale"])
    return sampler.sample(
        model,
        text,
        z,
        ["prompt"] * len(z),
        "cpu",
        size,
        mask=frame_mask,
        guidance_scale=guidance_scale,
    )


def config_of(name, **changes):
    """Convert the settings of a recorded run to ours."""
    cache = RUNS[name]["cache"]
    moreg = None
    if cache.get("apply_moreg"):
        center, power, divisor, _ = cache["moreg_hyp"]
        moreg = MoRegConfig(cache["moreg_strides"], cache["moreg_steps"], center, power, divisor, cache["mograd_mul"])
    arguments = {
        "codebook": dict(map(tuple, cache["codebook"])),
        "cache_res": cache["cache_res"],
        "cache_loc": cache["cache_loc"],
        "moreg": moreg,
    }
    return AdaCacheConfig(**{**arguments, **changes})


@pytest.mark.parametrize("name", [name for name in RUNS if name not in CACHED])
def test_uncached_runs_match_the_reference(golden_model, name):
    torch.testing.assert_close(sample(golden_model, name), VECTORS[f"{name}.latents"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("granularity", ["stack", "block"])
@pytest.mark.parametrize("name", CACHED)
def test_cached_runs_match_the_reference(golden_model, name, granularity):
    with apply_cache(golden_model, config_of(name, granularity=granularity), RUNS[name]["steps"]) as session:
        latents = sample(golden_model, name)
    torch.testing.assert_close(latents, VECTORS[f"{name}.latents"], atol=1e-4, rtol=0)
    assert computed_steps(session.trace) == RUNS[name]["computed_steps"]
    last = {record["step"]: record for record in RUNS[name]["records"]}  # the last site of a step decides
    measured = {record.step: record for record in session.trace if record.distance is not None}
    assert measured.keys() == last.keys()
    for step, expected in last.items():
        assert measured[step].rate == expected["rate"]
        assert measured[step].distance == pytest.approx(expected["mean_distance"], rel=1e-4)
        assert measured[step].motion == pytest.approx(expected["motion"], rel=1e-3)
    assert [record.step for record in session.trace] == list(range(1, RUNS[name]["steps"] + 1))


@pytest.mark.parametrize("granularity", ["stack", "block"])
@pytest.mark.parametrize("decision", ["batch", "sample"])
def test_a_codebook_of_ones_is_bit_identical_to_no_cache(golden_model, granularity, decision):
    plain = sample(golden_model, "mid_b2")
    config = AdaCacheConfig({0.1: 1, 1.0: 1}, granularity=granularity, decision=decision)
    with apply_cache(golden_model, config, 30):
        cached = sample(golden_model, "mid_b2")
    assert torch.equal(plain, cached)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_other_metrics_measure_the_same_residuals(golden_model, metric):
    """With rates of 1 a cached run sees the residuals of the plain run, so its distances are known."""
    config = config_of("moreg_fast", metric=metric, codebook={1e9: 1})
    with record_probe(golden_model, config) as recorder:
        sample(golden_model, "moreg_fast")
    with apply_cache(golden_model, config, 30) as session:
        sample(golden_model, "moreg_fast")
    changes = recorder.recording().changes
    expected = [distance_of(changes[step, step + 1], 1, metric) for step in range(1, 30)]
    assert [record.distance for record in session.trace[1:]] == pytest.approx(expected) and min(expected) > 0
    motions = [record.motion for record in session.trace if record.motion is not None]
    assert 0 < min(motions) < 1  # MoReg reads its sums after those of the metric


def state_of(model):
    return [(name, set(vars(module))) for name, module in model.named_modules()]


@pytest.mark.parametrize("granularity", ["stack", "block"])
def test_detaching_leaves_no_trace(golden_model, granularity):
    plain, before = sample(golden_model, "mid"), state_of(golden_model)
    session = apply_cache(golden_model, config_of("mid", granularity=granularity), 30)
    assert state_of(golden_model) != before
    sample(golden_model, "mid")
    session.detach()
    assert state_of(golden_model) == before and session.cache_bytes() == 0 and len(session.trace) == 30
    assert torch.equal(sample(golden_model, "mid"), plain)


def test_detached_also_after_an_exception(golden_model):
    before = state_of(golden_model)
    with pytest.raises(ZeroDivisionError), apply_cache(golden_model, config_of("mid"), 30):
        raise ZeroDivisionError
    assert state_of(golden_model) == before


def test_runs_repeat_on_one_session(golden_model):
    with apply_cache(golden_model, config_of("moreg_fast"), 30) as session:
        first, steps = sample(golden_model, "moreg_fast"), computed_steps(session.trace)
        second = sample(golden_model, "moreg_fast")
        assert torch.equal(first, second) and computed_steps(session.trace) == steps


@pytest.mark.parametrize("granularity", ["stack", "block"])
def test_a_run_that_raised_does_not_poison_the_next(golden_model, granularity):
    block = golden_model.spatial_blocks[1].mlp
    with apply_cache(golden_model, config_of("mid", granularity=granularity), 30) as session:
        expected = sample(golden_model, "mid")
        calls = []

        def fail(module, inputs):
            calls.append(1)
            if len(calls) == 4:
                raise RuntimeError("lost the device")

        handle = block.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="lost the device"):
            sample(golden_model, "mid")
        handle.remove()
        assert session.cache_bytes() == 0
        assert torch.equal(sample(golden_model, "mid"), expected)


def batch_of_three(name="mid_b2"):
    """Two recorded videos and a third one that is very different."""
    z, y, mask = (VECTORS[f"{name}.{key}"] for key in ("z", "y", "text_mask"))
    generator = torch.Generator().manual_seed(3)
    third = torch.randn(z[:1].shape, generator=generator) * 0.2
    return (
        torch.cat([z, third]),
        torch.cat([y, torch.randn(y[:1].shape, generator=generator)]),
        torch.cat([mask, mask[:1]]),
    )


@pytest.mark.parametrize("granularity", ["stack", "block"])
@pytest.mark.parametrize("moreg", [None, MoRegConfig(steps=(2, 28), center=0.3, power=1, gradient_weight=1)])
def test_per_video_decisions_equal_single_runs(golden_model, granularity, moreg):
    z, y, mask = batch_of_three()
    config = AdaCacheConfig(
        {0.02: 6, 0.05: 4, 0.08: 3, 0.12: 2, 1.0: 1},
        cache_loc=(2,),
        moreg=moreg,
        granularity=granularity,
        decision="sample",
    )

    def run(rows):
        text = RecordedText(y[rows], mask[rows], golden_model.y_embedder.y_embedding)
        size = {
            key: torch.full((len(rows),), value)
            for key, value in zip(("height", "width", "num_frames", "fps"), (64.0, 64.0, 34.0, 24.0), strict=True)
        }
        with apply_cache(golden_model, config, 30) as session:
            latents = RFLOW(30, cfg_scale=7.0).sample(golden_model, text, z[rows], ["p"] * len(rows), "cpu", size)
        return latents, session.traces

    together, traces = run([0, 1, 2])
    singles = [run([row]) for row in range(3)]
    schedules = [computed_steps(trace) for trace in traces]
    assert schedules == [computed_steps(trace[0]) for _, trace in singles]
    assert len({tuple(schedule) for schedule in schedules}) > 1, "the three videos should differ"
    torch.testing.assert_close(together, torch.cat([latents for latents, _ in singles]), atol=1e-5, rtol=1e-5)
    rows = [sum(2 for trace in traces if trace[step].computed) for step in range(30)]
    assert rows == [record.rows_computed for record in traces[0]]


def test_skipped_steps_run_no_block(golden_model):
    calls = []
    for block in [*golden_model.spatial_blocks, *golden_model.temporal_blocks]:
        block.mlp.register_forward_pre_hook(lambda module, inputs: calls.append(module))
    with apply_cache(golden_model, config_of("fast"), 30):
        sample(golden_model, "fast")
    assert len(calls) == 8 * len(RUNS["fast"]["computed_steps"])


@pytest.mark.parametrize(("cache_loc", "probes"), [((2,), 1), ((0, 2), 2)])
def test_stack_holds_one_residual_and_the_probes(golden_model, cache_loc, probes):
    with apply_cache(golden_model, config_of("mid", cache_loc=cache_loc), 30) as session:
        sample(golden_model, "mid")
        residual = 2 * 5 * 16 * 64 * 4  # rows, frames, patches, channels, bytes
        assert session.peak_cache_bytes == (1 + probes) * residual and session.cache_bytes() == 0
    assert session.peak_cache_bytes == (1 + probes) * residual


def test_block_holds_what_the_reference_holds(golden_model):
    with apply_cache(golden_model, config_of("mid", granularity="block"), 30) as session:
        sample(golden_model, "mid")
    assert session.peak_cache_bytes == 4 * 4 * (2 * 5 * 16 * 64 * 4)  # 4 · depth residuals


def test_one_synchronisation_per_computed_step_and_none_on_others(golden_model, monkeypatch):
    """On a device, each read of a value would wait for it (timesteps are on the CPU here, where reading is free)."""
    reads = []
    for name in ("tolist", "item", "__float__", "__bool__", "__int__", "cpu"):
        original = getattr(torch.Tensor, name)

        def counted(tensor, *arguments, _original=original):
            if inspect.stack()[1].filename.startswith(CACHING) and tensor.device.type == "cpu" and tensor.numel() > 1:
                reads.append(session.step)
            return _original(tensor, *arguments)

        monkeypatch.setattr(torch.Tensor, name, counted)
    with apply_cache(golden_model, config_of("moreg_fast"), 30) as session:
        sample(golden_model, "moreg_fast")
    assert reads == RUNS["moreg_fast"]["computed_steps"]  # the first step only reads the sum of the output


def test_after_a_sampler_of_fewer_steps_the_next_run_begins_anew(golden_model):
    session = apply_cache(golden_model, config_of("mid"), 40)
    first = sample(golden_model, "mid")
    with pytest.warns(UserWarning, match="begins a new run after 30 of 40 steps"):
        assert torch.equal(sample(golden_model, "mid"), first)
    session.detach()
    assert session.cache_bytes() == 0


def test_a_rise_that_is_noticed_late_is_an_error(golden_model):
    """On a device, timesteps are read at computed steps only; a skipped step may already have used another video's."""
    timesteps = Timesteps(40, None)
    for value in (900.0, 800.0, 950.0):
        timesteps.add(torch.tensor([value]), None)
    with pytest.raises(ValueError, match=r"timestep rose from 800 to 950 by step 3 of 40"):
        timesteps.read(3)


def test_a_sampler_of_fewer_steps_is_told_at_the_end(golden_model):
    with (
        pytest.warns(UserWarning, match="only 30 of 40 steps ran"),
        apply_cache(golden_model, config_of("mid"), 40),
    ):
        sample(golden_model, "mid")


def test_a_sampler_of_more_steps_goes_on(golden_model):
    with apply_cache(golden_model, config_of("mid"), 20) as session:
        with pytest.warns(UserWarning, match="the sampler goes on to timestep .* after 20 steps"):
            assert sample(golden_model, "mid").isfinite().all()
        assert len(session.trace) == 10
        session.end_run()


def test_changed_shape_raises(golden_model):
    with apply_cache(golden_model, config_of("mid"), 30) as session:
        arguments = {key: torch.ones(1) for key in ("fps", "height", "width")}
        y = torch.zeros(2, 1, 12, 32)
        golden_model(torch.zeros(2, 4, 5, 8, 8), torch.full((2,), 900.0), y, **arguments)
        with pytest.raises(
            ValueError, match=r"latents changed from \(2, 4, 5, 8, 8\) to \(2, 4, 5, 8, 6\) at step 2 of 30"
        ):
            golden_model(torch.zeros(2, 4, 5, 8, 6), torch.full((2,), 800.0), y, **arguments)
        session.reset()
        golden_model(torch.zeros(2, 4, 5, 8, 6), torch.full((2,), 800.0), y, **arguments)
        session.reset()


@pytest.mark.parametrize(
    ("config", "steps", "message"),
    [
        (AdaCacheConfig(MID, cache_loc=(4,)), 30, r"cache_loc must name layers of 0\.\.3, got 4"),
        (AdaCacheConfig(MID, moreg=MoRegConfig(steps=(4, 31))), 30, r"MoReg steps must lie in 1\.\.30"),
        (AdaCacheConfig(MID), 0, "num_sampling_steps must be a whole number of at least 1, got 0"),
    ],
)
def test_settings_that_do_not_fit_leave_the_model_alone(golden_model, config, steps, message):
    before = state_of(golden_model)
    with pytest.raises(ValueError, match=message):
        apply_cache(golden_model, config, steps)
    assert state_of(golden_model) == before


def test_one_cache_at_a_time(golden_model):
    with apply_cache(golden_model, config_of("mid"), 30), pytest.raises(ValueError, match="attached already"):
        apply_cache(golden_model, config_of("mid"), 30)


def test_unknown_model():
    with pytest.raises(ValueError, match="got Linear"):
        apply_cache(torch.nn.Linear(2, 2), AdaCacheConfig(MID), 30)


def test_bfloat16(golden_model):
    """Half precision runs through every part; its schedule may differ, but a codebook of ones may not change it."""
    golden_model.to(torch.bfloat16)
    plain = sample(golden_model, "mid")
    with apply_cache(golden_model, AdaCacheConfig({1.0: 1}), 30):
        assert torch.equal(sample(golden_model, "mid"), plain)
    with apply_cache(golden_model, config_of("moreg_mid2"), 30) as session:
        assert sample(golden_model, "mid").isfinite().all()
        assert session.peak_cache_bytes == 2 * (2 * 5 * 16 * 64 * 2)  # two bytes per number
    assert len(computed_steps(session.trace)) < 15
