"""Steps that leave out the unconditional rows, on real models: in one batch, and in a call for each branch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from opensora_adacache import apply_cache
from opensora_adacache.adapters.diffusers.models import MODELS
from opensora_adacache.adapters.diffusers.outputs import rows_of_call
from opensora_adacache.caching.forecast.config import PlannedForecastConfig
from opensora_adacache.caching.guidance.settings import GuidanceReuse
from opensora_adacache.caching.guidance.unconditional import PLAIN, UnconditionalOutput
from opensora_adacache.caching.policies.easycache import EasyCacheConfig
from opensora_adacache.caching.policies.fastercache import FasterCacheConfig
from opensora_adacache.caching.policies.planned import PlannedConfig, StaticConfig
from opensora_adacache.caching.registry import POLICIES
from opensora_adacache.caching.team import Team
from opensora_adacache.caching.team_check import check_team
from opensora_adacache.schedulers import RFLOW

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # raised inside Mochi
STEPS = 12
REUSE = GuidanceReuse(interval=3, start=0.3)  # leaves rows out at steps 4, 5, 7, 8, 10 and 11
EVERY_STEP_OF_ALL = StaticConfig(interval=1)
EVERY_STEP = replace(EVERY_STEP_OF_ALL, guidance_reuse=REUSE)
LEFT_OUT = [4, 5, 7, 8, 10, 11]


def rebuilt(trace):
    return [record.step for record in trace if record.rebuilt]


def rows(trace):
    return [record.rows_computed for record in trace]


def test_every_step_by_hand(golden_model, sample, random_text):
    """The sampler with guidance written out: the plain model runs on the conditional row where rows are left out."""
    with apply_cache(golden_model, EVERY_STEP, STEPS) as session:
        cached = sample(golden_model)
    assert rebuilt(session.trace) == LEFT_OUT
    assert rows(session.trace) == [1 if step in LEFT_OUT else 2 for step in range(1, STEPS + 1)]

    text, z = random_text(golden_model), torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.cat([text.encode(["p"])["y"], text.null(1)])
    size = {"height": torch.tensor([64.0]), "width": torch.tensor([64.0]), "fps": torch.tensor([8.0])}
    output = UnconditionalOutput(REUSE, STEPS, 1)
    with torch.no_grad():
        for step, t in enumerate(RFLOW(STEPS, use_timestep_transform=False).timesteps(), start=1):
            cond = golden_model(z, torch.tensor([t]), y[:1], **size)
            if step in LEFT_OUT:
                uncond = output.rebuild(step, cond, PLAIN)
            else:
                uncond = golden_model(z, torch.tensor([t]), y[1:], **size)
                output.measure(step, cond, uncond, [0], None)
            z = z + (uncond + 4.0 * (cond - uncond))[:, :4] / STEPS
    torch.testing.assert_close(cached, z, atol=1e-5, rtol=1e-4)


def check_policy(model, sample, settings, decision, num_videos=2):
    """Check a policy's setting that computes every step, and one that skips some."""
    for index, config in enumerate(settings):
        config = replace(config, decision=decision)
        with apply_cache(model, config, STEPS):
            plain = sample(model, num_videos)
        with apply_cache(model, replace(config, guidance_reuse=GuidanceReuse(interval=1)), STEPS):
            assert torch.equal(sample(model, num_videos), plain), "an interval of 1 changes nothing"
        with apply_cache(model, replace(config, guidance_reuse=REUSE), STEPS) as session:
            cached = sample(model, num_videos)
            for trace in session.traces:
                computed = [record.step for record in trace if record.computed]
                assert rebuilt(trace) == REUSE.left_out(computed, STEPS) != []
                assert index == 1 or computed == [*range(1, STEPS + 1)]
            assert torch.equal(sample(model, num_videos), cached)
        assert 0 < (cached - plain).norm() < 0.2 * plain.norm()


def check_exact_steps(model, config):
    """Check that the steps at which the rows come back give what the plain model gives for both branches."""
    if config.corrector:
        config = replace(config, corrector=0.0)
    plain, _, _ = outputs_on_given_latents(model, EVERY_STEP_OF_ALL)
    found, trace, _ = outputs_on_given_latents(model, replace(config, guidance_reuse=REUSE))
    back = [record.step - 1 for record in trace[3:] if record.computed and not record.rebuilt]
    assert back and all(record.share is None or record.share == 1 for record in trace if record.step - 1 in back)
    torch.testing.assert_close(found[back], plain[back], atol=1e-5, rtol=1e-4)


def test_a_policy(golden_model, sample, policy_settings):
    check_policy(golden_model, sample, policy_settings["AdaCache"], "batch", num_videos=1)
    check_exact_steps(golden_model, policy_settings["FasterCache"][1])


@pytest.mark.slow
@pytest.mark.parametrize("decision", ["batch", "sample"])
@pytest.mark.parametrize("name", POLICIES)
def test_every_policy(golden_model, sample, policy_settings, name, decision):
    check_policy(golden_model, sample, policy_settings[name], decision)
    check_exact_steps(golden_model, policy_settings[name][1])


@torch.no_grad()
def outputs_on_given_latents(model, config):
    """Return the outputs [step, branch, …], the trace, and the bytes held before the last step.

    No output moves the latents.
    """
    x = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1, -1)
    y = torch.randn(2, 1, 12, 32, generator=torch.Generator().manual_seed(1))
    size = {"fps": torch.full((1,), 8.0), "height": torch.full((1,), 64.0), "width": torch.full((1,), 64.0)}
    with apply_cache(model, config, STEPS) as session:
        outs = []
        for i in range(STEPS):
            held = session.cache_bytes()
            outs.append(model(x * (1 - i / 20), torch.full((2,), 1000.0 - 80 * i), y, **size))
        return torch.stack(outs), session.trace, held


def test_the_conditional_rows_go_on_as_they_would_with_all_rows(golden_model):
    """From step 4 on, only they are cached; by hand, of the computed steps 4, 6 and 9 are first in their windows."""
    config = PlannedConfig(steps=(1, 2, 4, 6, 9, 11), predictor="taylor-1")
    plain, _, held = outputs_on_given_latents(golden_model, config)
    reused, trace, held_reused = outputs_on_given_latents(golden_model, replace(config, guidance_reuse=REUSE))
    assert rebuilt(trace) == [5, 7, 8, 10, 11, 12]
    torch.testing.assert_close(reused[:, 0], plain[:, 0])
    for step in (1, 2, 3, 4, 6, 9):
        equal = torch.allclose(reused[step - 1, 1], plain[step - 1, 1], atol=1e-5)
        assert equal, step  # rows that compute are exact, also beside cached ones
    difference = 2 * plain[0, 0].numel() * 4  # of the branches, and its low frequencies
    assert held_reused == held // 2 + difference


def test_a_video_does_not_depend_on_the_batch(golden_model, sample):
    config = replace(EasyCacheConfig(threshold=0.2), decision="sample", guidance_reuse=REUSE)
    with apply_cache(golden_model, config, STEPS) as session:
        both = sample(golden_model, 2)
        first, second = ([(record.computed, record.rebuilt) for record in trace] for trace in session.traces)
        alone = sample(golden_model)
        assert [(record.computed, record.rebuilt) for record in session.trace] == first != second
    torch.testing.assert_close(both[:1], alone, atol=1e-4, rtol=1e-4)


def test_a_correction_of_the_conditional_output_holds_for_both_branches(golden_model):
    config = PlannedForecastConfig(steps=(1, 2, 4, 6, 9, 11), guidance_reuse=REUSE)
    plain, _, _ = outputs_on_given_latents(golden_model, config)
    corrected, _, _ = outputs_on_given_latents(golden_model, replace(config, corrector=0.5))
    cond, uncond = (corrected - plain).unbind(1)
    after_skips = [3, 5, 8, 10]  # steps 4, 6, 9 and 11
    assert [i for i in range(STEPS) if cond[i].any()] == after_skips
    torch.testing.assert_close(uncond[3:], cond[3:], atol=1e-5, rtol=1e-4)


def test_a_step_at_which_the_rows_come_back_computes_every_site(golden_model, sample):
    config = FasterCacheConfig(first_steps=3, guidance_reuse=REUSE)
    with apply_cache(golden_model, config, STEPS) as session:
        sample(golden_model)
    # steps 4, 6, 8, 10 and 12 reuse attention; all rows come back at steps 6, 9 and 12
    reused = [record.step for record in session.trace if record.share != 1]
    assert reused == [4, 8, 10]


# diffusers


def guided(tiny, model, config, seeds=(0, 1)):
    """Return a sample, and by branch the rows that computed and the steps that were rebuilt."""
    with apply_cache(model, config, STEPS) as session:
        out = tiny.sample(model, seeds, STEPS)
        assert torch.equal(tiny.sample(model, seeds, STEPS), out)
        first = {name: branch.traces[0] for name, branch in session.branches.items()}
        return out, {name: (rows(trace), rebuilt(trace)) for name, trace in first.items()}


def check_model(tiny):
    model = tiny.make()
    plain = tiny.sample(model, (0, 1), STEPS)
    same, _ = guided(tiny, model, StaticConfig(interval=1, guidance_reuse=GuidanceReuse(interval=1)))
    assert torch.equal(same, plain)
    calls = []
    tiny.blocks(model)[-1].register_forward_pre_hook(lambda block, inputs: calls.append(1))
    out, branches = guided(tiny, model, EVERY_STEP)
    both = [2 if step in LEFT_OUT else 4 for step in range(1, STEPS + 1)]
    if tiny.two_calls:
        assert branches == {"cond": ([2] * STEPS, []), "uncond": ([number - 2 for number in both], LEFT_OUT)}
    else:
        assert list(branches.values()) == [(both, LEFT_OUT)]
    # from step 4 on, all rows take a call of the conditional and one of the unconditional ones at 6, 9 and 12
    assert len(calls) == 2 * ((2 * STEPS - len(LEFT_OUT)) if tiny.two_calls else STEPS + 3)
    assert out.isfinite().all() and 0 < (out - plain).norm() < 0.2 * plain.norm()


@pytest.mark.parametrize("name", ["cogvideox", "ltx", "wan-2.1"])
def test_diffusers(tiny_models, name):
    check_model(tiny_models[name])


REFUSED = {
    "anyflow-far": "gets kv_cache, which holds all rows of the batch",
    "wan-animate-2": "gets kv_cache, which holds all rows of the batch",
    "sana-wm-refiner": "gets kv_cache, which holds all rows of the batch",
    "ltx-2": "rebuilds the output for the video only",
    "kandinsky-6": "rebuilds the output for the video only",
    "minimax-h3": "the rows and columns of latents of shape",
    "flux": "the rows and columns of latents of shape",
    "cosmos-3": "the rows and columns of latents of shape",
    "cosmos-1": "needs both guidance branches of each video",
    "cosmos-2": "needs both guidance branches of each video",
    "cosmos-2.5": "needs both guidance branches of each video",
}
"""Small models → why the unconditional rows cannot be left out."""
NO_DIFFERENCE = ("motif-decoder", "kandinsky-6-sr")
"""Small models whose output does not depend on the prompt."""


@pytest.mark.slow
def test_every_model_of_diffusers(tiny_models):
    for name, tiny in tiny_models.items():
        if name in REFUSED:
            with pytest.raises(ValueError, match=REFUSED[name]):
                guided(tiny, tiny.make(), EVERY_STEP, (0,) if tiny.one_video else (0, 1))
        elif name not in NO_DIFFERENCE:
            check_model(tiny)


@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")  # raised inside diffusers
def test_outputs_are_those_of_diffusers(tiny_models):
    """One window: all rows take part while the timestep is above 700, and none of the unconditional ones later. The low
    frequencies grow at each such step (as theirs do down to a timestep), the high ones from timestep 300 on."""
    import diffusers

    tiny = tiny_models["cogvideox"]
    model, now = tiny.make(), []
    times = torch.linspace(1000, 1000 / STEPS, STEPS)
    config = diffusers.FasterCacheConfig(
        spatial_attention_block_skip_range=None,
        unconditional_batch_skip_range=STEPS + 1,
        unconditional_batch_timestep_skip_range=(-1, 700),
        low_frequency_weight_update_timestep_range=(400, 1000),
        high_frequency_weight_update_timestep_range=(-1, 300),
        alpha_low_frequency=1.1,
        alpha_high_frequency=1.2,
        attention_weight_callback=lambda module: 0.0,
        current_timestep_callback=lambda: float(times[now[-1]]),
        tensor_format="BFCHW",
    )
    model.enable_cache(config)
    theirs = tiny.sample(model, (0,), STEPS, on_step=now.append)
    model.disable_cache()
    # steps 5 to 12 are below timestep 700, steps 5 to 8 above 400, and steps 10 to 12 below 300
    reuse = GuidanceReuse(STEPS + 1, start=0.34, low_factor=1.1, low_until=0.7, high_factor=1.2, high_from=0.76)
    ours, branches = guided(tiny, model, replace(EVERY_STEP, guidance_reuse=reuse), (0,))
    assert branches["cond_uncond"][1] == [*range(5, STEPS + 1)]
    torch.testing.assert_close(ours, theirs)


def test_two_calls_follow_the_conditional_branch(tiny_models):
    """The policy computes steps 1, 3, 5, …; of these, 7, 9 and 12 are the first in their windows after step 5."""
    tiny = tiny_models["wan-2.1"]
    config = StaticConfig(interval=2, decision="sample", guidance_reuse=REUSE)
    _, branches = guided(tiny, tiny.make(), config)
    computed = [1, 3, 5, 7, 9, 11, 12]
    assert branches["cond"] == ([2 * (step in computed) for step in range(1, STEPS + 1)], [])
    left_out = REUSE.left_out(computed, STEPS)
    assert left_out == [4, 5, 6, 8, 10, 11]
    uncond = [2 * (step in computed and step not in left_out) for step in range(1, STEPS + 1)]
    assert branches["uncond"] == (uncond, left_out)


def test_arguments_that_all_rows_share():
    """Some rows of a call get them whole, also where they are as long as the batch."""
    shared = {
        "WanVACETransformer3DModel": {"control_hidden_states_scale": torch.tensor([1.0, 0.5])},
        "Kandinsky5Transformer3DModel": {
            "visual_rope_pos": [torch.arange(2)] * 3,
            "text_rope_pos": torch.arange(2),
        },
        "Kandinsky6Transformer3DModel": {"visual_rope_pos": (torch.arange(2),) * 3},
        "HunyuanVideoFramepackTransformer3DModel": {"indices_latents": torch.arange(2)},
    }
    for name, arguments in shared.items():
        found = rows_of_call({"hidden_states": torch.zeros(2, 4), **arguments}, slice(0, 1), 2, MODELS[name])
        assert found.pop("hidden_states").shape == (1, 4) and found == arguments


# What is refused


def test_models_without_an_unconditional_branch_are_refused(tiny_models):
    tiny = tiny_models["hunyuan"]
    distilled = replace(tiny, config={**tiny.config, "guidance_embeds": True}).make()
    with pytest.raises(ValueError, match="is distilled to take the guidance scale as an input"):
        apply_cache(distilled, EVERY_STEP, STEPS)
    assert apply_cache(distilled, replace(EVERY_STEP, guidance_reuse=None), STEPS).detach() is None


@torch.no_grad()
@pytest.mark.parametrize("calls", [("cond_uncond",), ("cond", "cond"), ("uncond", "cond"), ("", "")])
def test_runs_without_both_branches_are_refused(tiny_models, calls):
    """Two videos without guidance, one branch alone, the unconditional one first, calls without a name."""
    tiny = tiny_models["wan-2.1"]
    model, prompts = tiny.make(), tiny.extra(2, torch.Generator().manual_seed(0))
    x = torch.cat([tiny.latents(0), tiny.latents(1)])
    message = "for the unconditional branch first" if calls[0] == "uncond" else "switch guidance on, or leave"
    with pytest.raises(ValueError, match=message), apply_cache(model, EVERY_STEP, STEPS):
        for index, branch in enumerate(calls):
            tiny.call(model, branch, x, torch.tensor(1000.0 - index), prompts)


@torch.no_grad()
def test_a_batch_of_videos_without_guidance_is_refused(golden_model):
    y, size = torch.randn(2, 1, 12, 32), {key: torch.full((2,), 64.0) for key in ("fps", "height", "width")}
    with pytest.raises(ValueError, match="needs both guidance branches"), apply_cache(golden_model, EVERY_STEP, 2):
        golden_model(torch.randn(2, 4, 3, 8, 8), torch.full((2,), 900.0), y, **size)


def test_guidance_on_two_devices_is_refused():
    team = Team()
    team.num_branches = 2
    check_team(replace(EVERY_STEP, guidance_reuse=None), team)
    with pytest.raises(ValueError, match="set parallel.guidance=1"):
        check_team(EVERY_STEP, team)
