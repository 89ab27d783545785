"""Configs: both dialects, overrides, and every error that can be found before anything is loaded."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opensora_adacache import AdaCacheConfig, MoRegConfig
from opensora_adacache.benchmark.vbench import VBenchPrompt
from opensora_adacache.caching.guidance.settings import GuidanceReuse
from opensora_adacache.caching.registry import POLICIES, config_class
from opensora_adacache.config import load_config
from opensora_adacache.config.dialect import REFERENCE_KEYS
from opensora_adacache.config.executor import ExecutorSettings
from opensora_adacache.config.keys import KNOWN_KEYS, LOADED
from opensora_adacache.errors.family import AdaCacheError
from opensora_adacache.generation.description import plain as plain_values
from opensora_adacache.generation.jobs import plan_jobs
from opensora_adacache.models.structure import VARIANTS

CONFIGS = Path(__file__).parents[2] / "configs"
PUBLISHED = sorted(CONFIGS.glob("sample*.py"))
CODEBOOK_100 = {0.03: 12, 0.05: 10, 0.07: 8, 0.09: 6, 0.11: 4, 1.0: 3}

MODELS = """
model = dict(type="STDiT3-XL/2", from_pretrained="owner/transformer", qk_norm=True{options})
vae = dict(type="OpenSoraVAE_V1_2", from_pretrained="owner/vae", micro_frame_size=17, micro_batch_size=4)
text_encoder = dict(type="t5", from_pretrained="owner/t5", model_max_length=300)
scheduler = dict(type="rflow", use_timestep_transform=True, num_sampling_steps=num_sampling_steps, cfg_scale=7.0)
"""
# The keys of the reference's configs, in its format.
VALUES = {
    "resolution": "480p",
    "aspect_ratio": "9:16",
    "num_frames": 51,
    "fps": 24,
    "frame_interval": 1,
    "save_fps": 24,
    "num_sampling_steps": 100,
    "batch_size": 1,
    "multi_resolution": "STDiT2",
    "dtype": "bf16",
    "seed": 42,
    "condition_frame_length": 5,
    "align": 5,
    "aes": 6.5,
    "flow": None,
}
COMMON = "".join(f"{name} = {value!r}\n" for name, value in VALUES.items())
# In the format of the reference: options are variables, repeated as keys of model.
REFERENCE_OPTIONS = {
    "do_cache": True,
    "cache_res": "t-attn",
    "cache_loc": [13],
    "codebook": CODEBOOK_100,
    "apply_moreg": True,
    "moreg_strides": [1],
    "moreg_steps": (10, 90),
    "moreg_hyp": (0.385, 8, 1, 2),
    "mograd_mul": 10,
}
GIVEN = {"prompt": ["a cat"], "save_dir": "out"}


@pytest.fixture
def write(tmp_path):
    def write_config(text: str, name: str = "config.py") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_config


@pytest.fixture
def reference(write) -> Path:
    """A config in the format of the reference, with AdaCache and MoReg."""
    variables = "".join(f"{name} = {value!r}\n" for name, value in REFERENCE_OPTIONS.items())
    options = "".join(f", {name}={name}" for name in ("num_sampling_steps", *REFERENCE_OPTIONS))
    return write(COMMON + variables + MODELS.format(options=options))


@pytest.fixture
def plain(write) -> Path:
    return write(COMMON + MODELS.format(options=""))


def load(path, **overrides):
    return load_config(path, {**GIVEN, **{key.replace("__", "."): value for key, value in overrides.items()}})


def test_published_setting():
    config = load_config(CONFIGS / "sample_adacache_moreg.py")
    assert config.image_size == (720, 1280) and config.num_frames == 51
    assert config.scheduler.num_sampling_steps == 100 and config.scheduler.cfg_scale == 7.0
    assert (config.aes, config.flow, config.fps, config.seed) == (7.0, 5.0, 24, 1024)
    assert config.mask_strategy == ("0",)
    moreg = MoRegConfig(steps=(0.1, 0.9))
    assert moreg.window(100) == (10, 90)
    assert config.cache == AdaCacheConfig(CODEBOOK_100, "t-attn", (13,), moreg, decision="sample")


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_ready_configs_differ_in_cache_and_folder_only(path):
    config = load_config(path)
    plain_name = path.stem.split("_adacache")[0]
    plain = load_config(path.with_stem(plain_name))
    assert config.save_dir == Path("samples/videos/gallery") / path.stem
    for name in ("seed", "prompts", "scheduler", "reference_path", "image_size"):
        assert getattr(config, name) == getattr(plain, name)
    assert (config.cache is None) == (path.stem == plain_name)


def test_reference_dialect_gives_the_same_cache(reference):
    config = load(reference)
    assert config.cache == AdaCacheConfig(
        CODEBOOK_100,
        "t-attn",
        (13,),
        MoRegConfig(strides=(1,), steps=(10, 90), center=0.385, power=8, divisor=1, gradient_weight=10),
    )
    assert load(reference, apply_moreg=False).cache == AdaCacheConfig(CODEBOOK_100, "t-attn", (13,))
    assert load(reference, do_cache=False).cache is None


def test_reference_steps_are_set_in_scheduler_and_model(reference):
    config = load(reference, num_sampling_steps=30, moreg_steps=(4, 26))
    assert config.scheduler.num_sampling_steps == 30
    with pytest.raises(ValueError, match="model.num_sampling_steps is 100 but scheduler.* is 30; set both"):
        load(reference, scheduler__num_sampling_steps=30)


def test_reference_defaults_of_left_out_options(write):
    config = load(write(COMMON + MODELS.format(options=", do_cache=True")))
    assert config.cache == AdaCacheConfig(CODEBOOK_100, "t-attn", (13,))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("do_cache = True\n", "'do_cache' at the top level of the config has no effect; write it into model"),
        ("num_sampling_steps = 30\n", "'num_sampling_steps' is 30 at the top level .* 100 in scheduler"),
        ("model['do_cache'] = True\ncache = dict(codebook={1.0: 1})\n", "cache section and model.do_cache"),
    ],
)
def test_dialects_do_not_contradict(plain, write, extra, message):
    with pytest.raises(ValueError, match=message):
        load(write(plain.read_text() + extra))


def test_named_size_and_frames(plain):
    assert load(plain).image_size == (480, 854)
    assert load(plain, image_size=[64, 128]).image_size == (64, 128)
    assert load(plain, resolution="144p", aspect_ratio="1:1").image_size == (192, 192)
    assert load(plain, num_frames="4s").num_frames == 102
    assert load(plain, num_frames="17").num_frames == 17


def test_a_named_size_counts_over_the_size_of_the_config(write, plain):
    sized = write(plain.read_text() + "image_size = (64, 64)\n")
    assert load(sized).image_size == (64, 64)
    assert load(sized, resolution="240p").image_size == (240, 426)


def test_latent_frames_agree_with_the_reference(plain, data_folder):
    cases = json.loads((data_folder / "latent_frames.json").read_text())
    for frames, latents in cases.items():
        assert load(plain, num_frames=int(frames)).num_latent_frames == latents


def test_depths_agree_with_the_model():
    from opensora_adacache.config.load import _DEPTHS

    assert {name: variant["depth"] for name, variant in VARIANTS.items()} == _DEPTHS


def test_devices_of_a_video(plain):
    split = {"parallel.sequence": 4, "parallel.guidance": 2}
    assert load(plain, **split).parallel.num_devices == 8 and load(plain).parallel.num_devices == 1
    # an image is a single frame, which is not split
    config = load_config(plain, GIVEN, defaults=split, image=True)
    assert config.parallel.num_devices == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"parallel.sequence": 16}, "splits the latent frames of a clip, of which there are 15; pass a smaller number"),
        ({"parallel.sequence": 0}, "parallel: sequence must be at least 1 and at most 10000, got 0"),
        ({"parallel.guidance": 3}, "guidance must be 1 or 2 devices for its branches, got 3"),
        ({"parallel.sequence": 2, "model.compile": True}, "parallel.sequence needs model.compile=False"),
        ({"parallel.sequence": 2, "cache": {"type": "SeaCache"}}, "cache.type SeaCache reads all frames of a video"),
        (
            {"parallel.guidance": 2, "cache": {"type": "Static", "interval": 2, "guidance_reuse": {}}},
            "cache.guidance_reuse rebuilds one guidance branch from the other, so parallel.guidance must be 1",
        ),
        ({"parallel.sequences": 2}, "unknown key 'parallel.sequences' in the config, did you mean 'sequence'"),
    ],
)
def test_videos_that_cannot_be_split(plain, overrides, message):
    with pytest.raises(AdaCacheError, match=re.escape(message)):
        load(plain, **overrides)
    assert load(plain, **{"parallel.guidance": 2, "cache": {"type": "SeaCache"}}).parallel.num_devices == 2


def test_any_policy_reuses_guidance(plain):
    section = {"type": "TeaCache", "threshold": 0.1, "guidance_reuse": {"interval": 4, "start": 0.5}}
    assert load(plain, cache=section).cache.guidance_reuse == GuidanceReuse(interval=4, start=0.5)
    assert load(plain, cache={**section, "guidance_reuse": None}).cache.guidance_reuse is None
    with pytest.raises(AdaCacheError, match="unknown key 'cache.guidance_reuse.intervals'.*did you mean 'interval'"):
        load(plain, cache={**section, "guidance_reuse": {"intervals": 4}})
    with pytest.raises(AdaCacheError, match="cache.guidance_reuse: start must be a fraction from 0 to 1"):
        load(plain, cache={**section, "guidance_reuse": {"start": 12}})


def test_the_config_of_a_benchmark_is_no_run():
    with pytest.raises(AdaCacheError, match="compare.py' describes a benchmark, not a run: opensora-adacache compare"):
        load_config("scenes/compare")


def test_save_fps_follows_fps_and_interval(write, plain):
    text = plain.read_text().replace("save_fps = 24\n", "")
    assert load(write(text)).save_fps == 24
    assert load(write(text), frame_interval=3).save_fps == 8


def test_prompts_from_file_and_list(plain, tmp_path):
    file = tmp_path / "birds.txt"
    file.write_text("a\nb\nc\n")
    config = load_config(plain, {"prompt_path": str(file), "start_index": 1, "save_dir": "o/{prompts}/{config}"})
    assert (config.prompts, config.start_index) == (("b", "c"), 1)
    assert config.save_dir == Path("o/birds/config")
    config = load_config(plain, {"prompt": ["x", "y"], "start_index": 4, "end_index": 5, "save_dir": "o"})
    assert (config.prompts, config.start_index) == (("x",), 4)


def test_prompt_file_of_the_command_line_counts_over_prompts_of_the_config(write, plain, tmp_path):
    (tmp_path / "p.txt").write_text("from file\n")
    path = write(plain.read_text() + "prompt = ['from config']\nsave_dir = 'o'\n")
    assert load_config(path).prompts == ("from config",)
    assert load_config(path, {"prompt_path": str(tmp_path / "p.txt")}).prompts == ("from file",)


def test_defaults_fill_only_what_is_open(plain):
    defaults = {"save_dir": "d", "fps": 99, "prompt_path": str(CONFIGS.parent / "assets/texts/gallery.txt")}
    config = load_config(plain, defaults=defaults)
    assert config.save_dir == Path("d") and config.fps == 24 and len(config.prompts) == 8


def test_image_run_writes_where_the_video_run_reads():
    video = load_config(CONFIGS / "sample.py")
    image = load_config(CONFIGS / "sample.py", image=True)
    assert str(image.save_dir) == video.reference_path[0]
    assert (image.num_frames, image.image_size, image.flow) == (1, (1080, 1920), None)
    assert image.mask_strategy == ("",) and image.reference_path == ()
    assert image.seed == video.seed and image.prompts == video.prompts


def test_folders_have_defaults_but_images_need_theirs(plain):
    given = {"prompt": ["a"]}
    assert load_config(plain, given).save_dir == Path("samples/videos/prompt/config")
    with pytest.raises(ValueError, match="images need a folder: pass --save-dir"):
        load_config(plain, given, image=True)
    assert load_config(plain, {**given, "save_dir": "o"}, image=True).save_dir == Path("o")


@pytest.mark.parametrize("name", ["sample", "sample_adacache", "sample_adacache_moreg"])
def test_configs_of_the_embedded_model(name):
    sections = ("model", "vae", "text_encoder")
    elsewhere = {f"{section}.from_pretrained": "owner/name" for section in sections}
    config = load_config(CONFIGS / "scenes" / f"{name}.py", elsewhere)
    assert (config.image_size, config.num_frames, config.num_latent_frames) == ((96, 96), 17, 5)
    assert len(config.prompts) == 8 and config.mask_strategy == ("",)
    assert (config.cache is None, bool(config.cache and config.cache.moreg)) == (
        name == "sample",
        name.endswith("moreg"),
    )


def test_image_run_drops_motion_and_options_of_videos(plain):
    path = CONFIGS / "sample_adacache_moreg.py"
    config = load_config(path, {"prompt": ['a {"mask_strategy": "0"}'], "save_dir": "o"}, image=True)
    assert config.cache is not None and config.cache.moreg is None
    assert config.prompts == ("a",)


ADACACHE = {"cache.type": "AdaCache", "cache.codebook": {0.1: 2, 1.0: 1}}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sede": 1}, "unknown key 'sede' in the config, did you mean 'seed'"),
        ({"model.codebok": {}}, "unknown key 'model.codebok' in the config, did you mean 'codebook'"),
        ({"vae.microbatch": 1}, "unknown key 'vae.microbatch'"),
        ({"image_size": [64, 100]}, "image_size 64x100: the width must be a multiple of 8, got 100; 96 and 104"),
        ({"image_size": [64]}, "image_size must be a list of 2"),
        ({"resolution": "721p"}, "unknown resolution '721p', did you mean '720p'"),
        ({"aspect_ratio": "9:61"}, "unknown aspect ratio '9:61'"),
        ({"num_frames": "3s"}, "unknown number of frames '3s'"),
        ({"num_frames": 0}, "number of frames must be at least 1"),
        ({"seed": -1}, "seed must lie in 0"),
        ({"seed": "x"}, "seed must be a whole number, got 'x'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"preview": 0}, "preview must be at least 1"),
        ({"frame_interval": 0}, "frame_interval must be at least 1, got 0"),
        ({"run": "sample.py"}, "unknown key 'run'"),
        ({"cache.speedup": 2}, "cache.speedup needs the policy that it is for"),
        ({"cache.policy": "adacache"}, "cache.policy goes with cache.speedup, which is missing"),
        ({"dtype": "fp23"}, "dtype is 'fp23', did you mean 'fp32'"),
        ({"scheduler.num_sampling_steps": 0}, "scheduler: num_sampling_steps must be at least 1"),
        ({"scheduler.type": "ddim"}, "scheduler.type is 'ddim'"),
        ({"multi_resolution": "PixArtMS"}, "multi_resolution is 'PixArtMS'; STDiT3 takes"),
        ({"llm_refine": True}, "llm_refine needs a service"),
        ({"loop": 2, "num_frames": 17}, "condition_frame_length 5 leaves nothing to generate"),
        ({"loop": 2, "condition_frame_length": 3}, "must be a multiple of 5"),
        ({"condition_frame_edit": 2.0}, "condition_frame_edit must lie in 0..1"),
        ({"prompt": None}, "no prompts; pass --prompt"),
        ({"prompt": ["a"], "start_index": 1, "end_index": 1}, "no prompt left"),
        ({"model.from_pretrained": "./nowhere"}, "model.from_pretrained './nowhere' does not exist"),
        ({"vae.from_pretrained": "nowhere/vae.safetensors"}, "vae.from_pretrained .* does not exist"),
        (
            {"vae.from_pretrained": " "},
            "vae.from_pretrained ' ' does not exist; expected a local folder or file, or a hub name",
        ),
        ({"scheduler.cfg_scale": -1e39}, r"scheduler: cfg_scale must lie in -10000\.\.10000, got -1e\+39"),
        ({"model": None}, "needs a section model"),
        ({**ADACACHE, "cache.codebook": {0.2: 2, 0.1: 1}}, "cache: codebook thresholds must rise"),
        ({**ADACACHE, "cache.cache_loc": [28]}, r"cache_loc must name layers of 0\.\.27, got 28"),
        ({**ADACACHE, "cache.moreg": {"steps": [10, 101]}}, r"MoReg steps must lie in 1\.\.100"),
        ({**ADACACHE, "cache.moreg": {"strides": [15]}}, "MoReg strides must be below 15"),
        ({**ADACACHE, "cache.moreg": {"centre": 1}}, "unknown key 'cache.moreg.centre'.*'center'"),
        ({**ADACACHE, "cache.type": "AdaCach"}, "cache.type is 'AdaCach', did you mean 'AdaCache'"),
        ({"cache.decision": "sample"}, "the config needs 'cache.codebook', which is missing"),
        ({"seed.x": 1}, "'seed' in 'seed.x' is not a section"),
    ],
    ids=str,
)
def test_mistakes_get_one_line(plain, overrides, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        load_config(plain, {**GIVEN, **overrides})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = \n", "is not valid Python: invalid syntax, near line 1"),
        ("seed = nothing\n", "cannot be read: name 'nothing' is not defined"),
        ("_base_ = ['gone.py']\n", "a _base_ of config .* does not exist: .*gone.py"),
        ("image = dict(sede=1)\n", "unknown key 'image.sede'"),
    ],
)
def test_broken_files(write, text, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        load_config(write(text))
    assert "\n" not in str(error.value)


NUMBERS = [10**400, -(10**400), 6400000000, np.int64(3), np.float32(2), np.arange(3)]
TEXTS = ["\ud800", "\0", "../x", "~nobody/x", "a\nb", "x" * 5000, b"x", "2s", "{config}"]
OTHERS = [[], {}, [1], {"a": 1}, {1: 2}, [[]], {"type": 5}, ("a", None), object(), int, Path("x"), 1j]
ODD = st.one_of(
    st.sampled_from(NUMBERS + TEXTS + OTHERS), st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)
)
CACHE_KEYS = sorted({field.name for policy in POLICIES for field in fields(config_class(policy))})
DOTTED = [
    *KNOWN_KEYS,
    *REFERENCE_KEYS,
    *(f"{name}.{field.name}" for name, section in LOADED.items() for field in fields(section)),
    *(f"model.{key}" for key in REFERENCE_KEYS),
    *(
        "model",
        "vae",
        "text_encoder",
        "scheduler",
        "scheduler.cfg_scale",
        "scheduler.num_sampling_steps",
        "scheduler.type",
    ),
    *("cache", "cache.type", "cache.moreg", *(f"cache.moreg.{field.name}" for field in fields(MoRegConfig))),
    *(f"cache.{key}" for key in CACHE_KEYS),
    *("image", "image.seed", "path", "prompts", "seed.x", ""),
]


@settings(max_examples=600)
@given(
    st.dictionaries(st.sampled_from(DOTTED), ODD, min_size=1, max_size=3),
    st.one_of(st.none(), st.sampled_from(sorted(POLICIES))),
    st.booleans(),
)
def test_any_values_give_a_config_or_one_line(tmp_path_factory, overrides, policy, image):
    """Wrong types, sizes and texts in every key, in the file and as options."""
    text = COMMON + MODELS.format(options="") + "save_dir = 'out'\n"
    path = tmp_path_factory.mktemp("fuzz") / "config.py"
    path.write_text("num_sampling_steps = 100\n" + text)
    start = {"prompt": ["a"], **({"cache.type": policy} if policy else {})}
    try:
        config = load_config(path, {**start, **overrides}, image=image)
        json.dumps(plain_values(asdict(config)), allow_nan=False)
    except AdaCacheError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) <= 2001


@pytest.mark.parametrize("section", ["model", "vae", "text_encoder", "scheduler"])
@pytest.mark.parametrize("value", ["None", "5", "[]", "'text'", "{1: 2}"])
def test_sections_that_are_none(plain, write, section, value):
    path = write(plain.read_text() + f"{section} = {value}\n")
    for overrides in ({}, {"num_sampling_steps": 30}, {"model.type": "STDiT3"}, {"do_cache": True}):
        with pytest.raises(AdaCacheError) as error:
            load_config(path, {**GIVEN, **overrides})
        assert "\n" not in str(error.value)


def test_numbers_of_numpy_are_numbers(write, plain):
    extra = "import numpy as np\nbatch_size = np.int64(2)\naes = np.float32(6.5)\nimage_size = np.array([64, 96])\n"
    config = load(write(plain.read_text() + extra), num_sampling_steps=np.int32(8), fps=np.float64(12.5))
    assert (config.batch_size, config.aes, config.image_size, config.fps) == (2, 6.5, (64, 96), 12.5)
    assert config.scheduler.num_sampling_steps == 8 and type(config.scheduler.num_sampling_steps) is int
    cache = {"cache.codebook": {np.float64(0.1): np.int64(4), 1.0: 1}, "cache.cache_loc": np.array([3])}
    assert load_config(plain, {**GIVEN, **cache}).cache == AdaCacheConfig({0.1: 4, 1.0: 1}, cache_loc=(3,))


def test_frames_per_second_may_be_fractions(write, plain):
    text = plain.read_text().replace("save_fps = 24\n", "").replace("fps = 24", "fps = 23.976")
    assert (load(write(text)).fps, load(write(text)).save_fps) == (23.976, 23.976)
    assert load(write(text), frame_interval=2).save_fps == 11.988
    assert load(plain, save_fps=24.0).save_fps == 24


def test_a_codebook_of_json_has_numbers_as_texts(write):
    sections = {name: {"from_pretrained": "a/b"} for name in ("model", "vae", "text_encoder")}
    values = {"image_size": [64, 64], "num_frames": 17, "fps": 8, "scheduler": {}, "prompt": ["a"], **sections}
    path = write(json.dumps({**values, "cache": {"codebook": {"0.1": 4, "1": 1}}}), "config.json")
    assert load_config(path).cache.codebook == {0.1: 4, 1.0: 1}
    child = write(json.dumps({"_base_": "config.json", "cache": {"codebook": {"0.5": 2}}}), "child.json")
    assert load_config(child).cache.codebook == {0.5: 2}


@pytest.mark.parametrize("section", ["model", "vae", "text_encoder"])
def test_hub_options_and_keys_of_the_references_training(plain, section):
    hub = {f"{section}.revision": "v1", f"{section}.cache_dir": "c", f"{section}.local_files_only": True}
    settings = getattr(load_config(plain, {**GIVEN, **hub}), section)
    assert (settings.revision, settings.cache_dir, settings.local_files_only) == ("v1", "c", True)
    load_config(plain, {**GIVEN, "text_encoder.shardformer": True, "model.freeze_y_embedder": True})
    with pytest.raises(AdaCacheError, match="unknown key 'vae.shardformer'"):
        load_config(plain, {**GIVEN, "vae.shardformer": True})


def test_one_key_names_videos_for_vbench(plain):
    config = load(plain, vbench=True)
    assert (config.prompt_as_path, config.num_sample, config.sample_name) == (True, 5, None)
    names = [job.path.name for job in plan_jobs(load(plain, vbench=True, prompt=["a red circle"]))]
    assert names == list(VBenchPrompt("a red circle", ()).video_names)
    assert load(plain, vbench=True, num_sample=5) == config and load(plain, vbench=False) == load(plain)
    for changes, message in (
        ({"num_sample": 3}, "vbench=True makes 5 videos per prompt, but num_sample is 3; leave num_sample out"),
        ({"sample_name": "x"}, "vbench=True names videos by their prompts alone, but sample_name is 'x'; leave"),
        ({"vbench": "yes"}, "vbench must be true or false, got 'yes'"),
    ):
        with pytest.raises(AdaCacheError, match=message):
            load(plain, **{"vbench": True, **changes})
    # images keep the names that videos look for
    images = load_config(plain, {**GIVEN, "vbench": True}, image=True)
    assert (images.prompt_as_path, images.num_sample) == (False, 1)


def test_an_executor_is_a_section(plain, write):
    assert load(plain).executor is None
    path = write(plain.read_text() + "executor = dict(type='local', workers=4)\n", "executor.py")
    assert load(path).executor == ExecutorSettings("local", 4)
    assert load_config(path, {**GIVEN, "executor.workers": 2}).executor == ExecutorSettings("local", 2)
    ray = {"executor.type": "ray", "executor.address": "head:6379"}
    assert load_config(plain, {**GIVEN, **ray}).executor == ExecutorSettings("ray", None, "head:6379")
    for changes, message in (
        ({"executor.type": "rey"}, "executor.type is 'rey', did you mean 'ray'"),
        ({"executor.workers": 0}, "executor: workers must be at least 1"),
        ({"executor.address": "head:6379"}, "executor: address is that of a Ray cluster, but type is 'local'"),
        ({"executor": "local"}, "executor must be a section such as"),
    ):
        with pytest.raises(AdaCacheError, match=message):
            load_config(plain, {**GIVEN, **changes})


def test_missing_file():
    with pytest.raises(FileNotFoundError, match="config 'gone.py' does not exist"):
        load_config("gone.py")


def test_depth_comes_from_a_local_checkpoint(plain, tmp_path):
    (tmp_path / "config.json").write_text('{"depth": 4}')
    overrides = {**GIVEN, "model.from_pretrained": str(tmp_path), **ADACACHE}
    load_config(plain, {**overrides, "cache.cache_loc": [3]})
    with pytest.raises(ValueError, match=r"layers of 0\.\.3, got 4"):
        load_config(plain, {**overrides, "cache.cache_loc": [4]})


def test_reading_a_config_does_not_import_torch():
    code = f"import sys; from opensora_adacache.config import load_config; load_config({str(PUBLISHED[0])!r}); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"type": "TeaCache", "threshold": 0.2, "coefficients": [1.0, 0.0]}, "TeaCacheConfig"),
        ({"type": "Static", "interval": 2, "decision": "sample"}, "StaticConfig"),
        ({"type": "Planned", "steps": [1, 2, 30]}, "PlannedConfig"),
    ],
)
def test_other_policies(section, expected):
    config = load_config(CONFIGS / "scenes" / "sample.py", {"cache": section, "prompt": ["a"]})
    assert type(config.cache).__name__ == expected


def test_unknown_policy_names_the_closest():
    with pytest.raises(ValueError, match="cache.type is 'TeeCache', did you mean 'TeaCache'"):
        load_config(CONFIGS / "scenes" / "sample.py", {"cache": {"type": "TeeCache"}, "prompt": ["a"]})


def test_names_with_an_underscore_are_the_files_own():
    config = load_config(CONFIGS / "scenes" / "sample_forecast.py")
    assert config.cache.speedup == 2.2 and len(config.cache.sensitivity) == len(config.cache.growth) == 30
