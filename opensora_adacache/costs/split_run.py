"""Costs and predicted latency of a run whose videos several devices make together.

The prediction adds up computing, sending and waiting: FLOPs of the busiest device / compute rate + bytes that leave it
/ link rate + messages · time per message. It leaves out everything but the transformer and the decoder of the VAE,
sending that overlaps with computing, and kernels that get less efficient as their parts get smaller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from opensora_adacache.caching.contract import Site
from opensora_adacache.caching.guidance.settings import active
from opensora_adacache.caching.sites import SiteCacheConfig
from opensora_adacache.config.settings import OpenSoraConfig
from opensora_adacache.costs import run as run_flops
from opensora_adacache.costs.flops import StepFlops
from opensora_adacache.costs.parallel import SplitVideo

SUMS_PER_PROBE = 2
"""What AdaCache measures at its probe: ‖new − old‖₁ and ‖old‖₁."""
OVER_TIME = ("t", "attn")


@dataclass(frozen=True)
class Rates:
    """What the prediction assumes about a device.

    Attributes:
        flops: FLOPs per second that the models reach.
        link: bytes per second that leave a device. The default is NVLink of an A100, 600 GB/s in both directions
            together and so 300 in one (NVIDIA's A100 datasheet).
        message: seconds that a collective takes however little it sends; the default is an assumption.
    """

    flops: float
    link: float = 300e9
    message: float = 20e-6


@dataclass(frozen=True)
class SplitCosts:
    """Costs of making one video with guidance on some devices. Bytes and FLOPs are those of the first device.

    The first device has the largest part, so it is the busiest one.

    Attributes:
        flops: FLOPs of the run, decoding included.
        idle: fraction of the transformer's time that devices wait for the busiest one, on average.
        computed_bytes: bytes sent in a step in which all blocks run.
        reused_bytes: bytes sent in the cheapest step of the run.
        sent_bytes: bytes sent in the run.
        num_messages: collectives of the run.
        seconds: predicted latency.
        seconds_whole_decoding: the same if every device decodes the whole video, as in the reference implementation.
    """

    flops: float
    idle: float
    computed_bytes: float
    reused_bytes: float
    sent_bytes: float
    num_messages: float
    seconds: float
    seconds_whole_decoding: float


def split_video(config: OpenSoraConfig, sequence: int, guidance: int) -> SplitVideo:
    """Return the video of a run on sequence · guidance devices."""
    structure, (frames, height, width) = run_flops.structure(config.model), run_flops.latent_size(config)
    _, rows, columns = structure.patch_size
    return SplitVideo(
        num_frames=frames,
        num_places=-(-height // rows) * -(-width // columns),
        channels=structure.hidden_size,
        bytes_per_value=run_flops.BYTES_PER_VALUE[config.dtype],
        output_size=(structure.out_channels, height, width),
        sequence=sequence,
        guidance=guidance,
    )


def split_costs(
    config: OpenSoraConfig, computed_steps: float | None, num_text_tokens: int, split: SplitVideo, rates: Rates
) -> SplitCosts | None:
    """Return the costs of a run; None if its number of computed steps is unknown.

    Args:
        config: config of the run, including its cache.
        computed_steps: as in `costs.run.count_run`.
        num_text_tokens: number of text tokens that cross-attention reads.
        split: the video and the devices.
        rates: assumptions about the devices.
    """
    if config.cache is not None and active(config.cache.guidance_reuse) is not None:
        return None  # rows that are left out are not counted here
    step = run_flops.step_flops(config, num_text_tokens)
    steps = list(_steps(config, computed_steps, step))
    if not steps:
        return None
    agrees = config.cache is not None and config.cache.fixed_steps(config.scheduler.num_sampling_steps) is None
    agrees = agrees and not isinstance(config.cache, SiteCacheConfig)
    costs = [_step_costs(split, step, shares, agrees) for _, shares in steps]
    busiest, mean, sent, messages = (
        sum(number * cost[i] for (number, _), cost in zip(steps, costs, strict=True)) for i in range(4)
    )
    decoding = run_flops.decoding_flops(config)
    flops = busiest + decoding * _decoding_share(config, split)
    waiting = sent / rates.link + messages * rates.message
    return SplitCosts(
        flops=flops,
        idle=1 - mean / busiest,
        computed_bytes=max(cost[2] for cost in costs),
        reused_bytes=min(cost[2] for cost in costs),
        sent_bytes=sent,
        num_messages=messages,
        seconds=flops / rates.flops + waiting,
        seconds_whole_decoding=(busiest + decoding) / rates.flops + waiting,
    )


def _steps(
    config: OpenSoraConfig, computed_steps: float | None, step: StepFlops
) -> Iterator[tuple[float, Mapping[tuple[str, str], float]]]:
    """Yield numbers of steps, with the fraction of the layers that compute each site in them."""
    whole, num_steps = dict.fromkeys(step.sites, 1.0), config.scheduler.num_sampling_steps
    cache = config.cache
    if isinstance(cache, SiteCacheConfig):
        timesteps = run_flops.timesteps(config)
        for number in range(1, num_steps + 1):
            yield (
                1,
                {
                    (axis, kind): sum(
                        cache.computes(number, timesteps[:number], Site(layer, axis, kind))
                        for layer in range(step.depth)
                    )
                    / step.depth
                    for axis, kind in step.sites
                },
            )
        return
    fixed = run_flops.fixed_steps(config)
    computed = computed_steps if fixed is None else fixed
    if computed is None:
        return
    yield computed, whole
    if cache is not None and computed < num_steps:
        first = {site: (cache.num_first_blocks + (site[0] == "s")) // 2 / step.depth for site in step.sites}
        yield num_steps - computed, first


def _step_costs(
    split: SplitVideo, step: StepFlops, shares: Mapping[tuple[str, str], float], agrees: bool
) -> tuple[float, float, float, float]:
    """Return FLOPs of the busiest device, mean FLOPs of the devices, bytes and messages of a step."""
    flops = split.device_flops(step, shares)
    if split.num_devices == 1:
        return max(flops), max(flops), 0.0, 0.0
    exchanges = 2 * step.depth * shares[OVER_TIME] if split.sequence > 1 else 0.0
    sent, messages = exchanges / 2 * split.attention_bytes() + split.output_bytes(), exchanges + 1
    if agrees and shares[OVER_TIME] == 1:
        sent, messages = sent + split.message_bytes(SUMS_PER_PROBE), messages + 1
    return max(flops), sum(flops) / len(flops), sent, messages


def _decoding_share(config: OpenSoraConfig, split: SplitVideo) -> float:
    """Return the fraction of the VAE's chunks that the busiest device decodes."""
    num_chunks = -(-config.num_frames // config.vae.micro_frame_size)
    return -(-num_chunks // split.num_devices) / num_chunks
