"""Reading and writing checkpoints: every layout, and the errors for broken ones."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from opensora_adacache.models import checkpoint


class Net(nn.Module):
    """A module with a parameter of each kind, a persistent and a non-persistent buffer."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2)
        self.frozen = nn.Parameter(torch.ones(width), requires_grad=False)
        self.register_buffer("count", torch.tensor([7]))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)


def on_meta(width: int = 3) -> Net:
    with torch.device("meta"):
        return Net(width)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def assert_equal(state: dict[str, torch.Tensor], net: Net) -> None:
    assert state.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], tensor)


def message(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_saved_folder_reads_back_bit_for_bit(net, tmp_path):
    checkpoint.save(tmp_path / "new" / "net", net, {"depth": 2, "name": "déjà"})
    folder = checkpoint.resolve(tmp_path / "new" / "net")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert checkpoint.read_config(folder) == {"depth": 2, "name": "déjà"}
    assert_equal(checkpoint.read_state_dict(folder), net)


@pytest.mark.parametrize("wrapper", [None, "ema", "state_dict", "model"])
@pytest.mark.parametrize("name", ["ema.pt", "model.pth", "pytorch_model.bin"])
def test_pickled_file_alone_or_in_a_folder(net, tmp_path, name, wrapper):
    content = net.state_dict() if wrapper is None else {wrapper: net.state_dict(), "step": 12}
    torch.save(content, tmp_path / name)
    assert_equal(checkpoint.read_state_dict(tmp_path / name), net)
    assert_equal(checkpoint.read_state_dict(tmp_path), net)


def test_averaged_weights_are_taken_before_raw_ones(net, tmp_path):
    torch.save({"model": Net().state_dict(), "ema": net.state_dict()}, tmp_path / "last.pt")
    assert_equal(checkpoint.read_state_dict(tmp_path / "last.pt"), net)


def test_files_of_the_old_pickle_format_are_read(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert_equal(checkpoint.read_state_dict(tmp_path / "old.pt"), net)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_joined_by_their_index(net, tmp_path, suffix):
    weight_map = {}
    for i, (name, tensor) in enumerate(net.state_dict().items()):
        file = f"model-{i}.{suffix}"
        (save_file if suffix == "safetensors" else torch.save)({name: tensor}, tmp_path / file)
        weight_map[name] = file
    index = tmp_path / f"model.{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert_equal(checkpoint.read_state_dict(tmp_path), net)
    (tmp_path / f"model-2.{suffix}").unlink()
    with pytest.raises(FileNotFoundError, match=f"model-2.{suffix}: not found, but {index.name} lists it") as error:
        checkpoint.read_state_dict(tmp_path)
    message(error)
    index.write_text("[]")
    with pytest.raises(ValueError, match="expected a 'weight_map'"):
        checkpoint.read_state_dict(tmp_path)


def test_safetensors_are_read_before_pickled_files(net, tmp_path):
    checkpoint.save(tmp_path, net, {})
    torch.save(Net().state_dict(), tmp_path / "older.pt")
    assert_equal(checkpoint.read_state_dict(tmp_path), net)


def test_several_files_without_an_index_are_an_error(net, tmp_path):
    for name in ("one.pt", "two.pt"):
        torch.save(net.state_dict(), tmp_path / name)
    with pytest.raises(ValueError, match=r"several files of weights \(one.pt, two.pt\); pass the path of one"):
        checkpoint.read_state_dict(tmp_path)


@pytest.mark.parametrize("num_bytes", [0, 7, 100, -20])
@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_truncated_file_is_named(net, tmp_path, name, num_bytes):
    file = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(net.state_dict(), file)
    file.write_bytes(file.read_bytes()[:num_bytes])
    with pytest.raises(ValueError, match="corrupt or truncated") as error:
        checkpoint.read_state_dict(tmp_path)
    assert str(file) in message(error)


def test_pickles_of_other_objects_are_not_run(tmp_path):
    torch.save({"model": Net()}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="holds objects other than tensors") as error:
        checkpoint.read_state_dict(tmp_path / "net.pt")
    message(error)


@pytest.mark.parametrize("content", [[torch.ones(1)], {"step": 3}, {"model": {"weight": 1.0}}])
def test_file_without_tensors_by_name_is_an_error(tmp_path, content):
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="expected tensors by name"):
        checkpoint.read_state_dict(tmp_path / "net.pt")


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights; expected"):
        checkpoint.read_state_dict(tmp_path)
    with pytest.raises(FileNotFoundError, match="not found"):
        checkpoint.read_state_dict(tmp_path / "nowhere")
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="expected a name ending in .safetensors"):
        checkpoint.read_state_dict(tmp_path / "weights.npz")


def test_config_is_found_beside_a_file(tmp_path):
    checkpoint.write_config(tmp_path, {"depth": 1})
    assert checkpoint.read_config(tmp_path / "model.pt") == {"depth": 1}


def test_broken_config_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="a checkpoint needs its config.json") as error:
        checkpoint.read_config(tmp_path)
    message(error)
    (tmp_path / "config.json").write_text("{'depth': 1}")
    with pytest.raises(ValueError, match="not valid JSON") as error:
        checkpoint.read_config(tmp_path)
    message(error)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="expected a JSON object, got list"):
        checkpoint.read_config(tmp_path)


def test_loading_fills_a_module_from_the_meta_device(net, random_fills):
    module = checkpoint.load_into(on_meta(), net.state_dict(), source="net")
    assert_equal(module.state_dict(), net)
    assert module.linear.weight.requires_grad
    assert not module.frozen.requires_grad
    assert module.linear.weight.data_ptr() == net.linear.weight.data_ptr()  # assigned, not copied
    assert random_fills == []
    Net()
    assert random_fills  # shows that the previous assertion can fail


def test_loading_casts_floating_point_only(net):
    module = checkpoint.load_into(on_meta(), net.state_dict(), source="net", dtype=torch.bfloat16)
    assert module.linear.weight.dtype == module.frozen.dtype == torch.bfloat16
    assert module.count.dtype == torch.int64
    assert net.linear.weight.dtype == torch.float32


def test_training_loaded_weights_leaves_the_file_alone(net, tmp_path):
    checkpoint.save(tmp_path, net, {})
    torch.save(net.state_dict(), tmp_path / "net.pt")
    for path in (tmp_path, tmp_path / "net.pt"):
        module = checkpoint.load_into(on_meta(), checkpoint.read_state_dict(path), source=path)
        with torch.no_grad():
            module.linear.weight.add_(1)
        assert_equal(checkpoint.read_state_dict(path), net)


def test_keys_that_do_not_fit_are_listed(net):
    state = {**net.state_dict(), "old.a": torch.ones(1), "old.b": torch.ones(1)}
    del state["count"]
    state["frozen"] = torch.ones(5)
    with pytest.raises(ValueError) as error:
        checkpoint.load_into(on_meta(), state, source="some/folder")
    assert message(error) == (
        "some/folder does not fit Net: 1 missing (count); 2 unexpected (old.a, old.b); "
        "1 of another shape (frozen: expected [3], got [5]); check that weights and config.json belong together"
    )


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(torch.int32, "int32"), (torch.bool, "bool"), (torch.complex64, "complex64"), (torch.uint8, "uint8")],
)
def test_weights_of_another_kind_of_number_are_refused(net, tmp_path, dtype, kind):
    state = net.state_dict()
    state["linear.weight"] = state["linear.weight"].to(dtype)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="1 of another kind") as error:
        checkpoint.load_into(on_meta(), checkpoint.read_state_dict(tmp_path), source="net")
    assert f"(linear.weight: expected floating point, got {kind})" in message(error)
    state = {**net.state_dict(), "count": torch.tensor([7.0])}
    with pytest.raises(ValueError, match="count: expected whole numbers, got float32"):
        checkpoint.load_into(on_meta(), state, source="net")


def test_an_index_names_files_beside_it(tmp_path):
    for weight_map in ({"a": "../other.safetensors"}, {"a": "/etc/passwd"}, {"a": 5}):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(ValueError, match="expected names of files next to it"):
            checkpoint.read_state_dict(tmp_path)


def test_a_config_nested_without_end_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply") as error:
        checkpoint.read_config(tmp_path)
    message(error)


def test_a_home_that_nobody_has_is_not_found():
    with pytest.raises(FileNotFoundError, match="~nouser/x"):
        checkpoint.resolve("~nouser/x")


def test_long_lists_are_cut_and_counted(net):
    state = {**net.state_dict(), **{f"extra.{i:02d}": torch.ones(1) for i in range(12)}}
    with pytest.raises(ValueError, match=r"12 unexpected \(extra.00, .*, extra.09, …\)"):
        checkpoint.load_into(on_meta(), state, source="net")
    module = checkpoint.load_into(on_meta(), state, source="net", ignore=("extra.*",))
    assert_equal(module.state_dict(), net)


def test_failed_save_keeps_what_was_there(net, tmp_path):
    checkpoint.save(tmp_path, net, {"depth": 1})
    shared = torch.ones(4)
    with pytest.raises(RuntimeError):
        checkpoint.save(tmp_path, {"a": shared, "b": shared}, {"depth": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert checkpoint.read_config(tmp_path) == {"depth": 1}
    assert_equal(checkpoint.read_state_dict(tmp_path), net)


def test_saving_where_no_folder_can_be_is_an_os_error(net, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as error:
        checkpoint.save(tmp_path / "file" / "net", net, {})
    message(error)


def test_local_paths_and_their_subfolders(tmp_path):
    (tmp_path / "vae").mkdir()
    assert checkpoint.resolve(tmp_path, subfolder="vae") == tmp_path / "vae"
    with pytest.raises(FileNotFoundError, match="expected a folder 'text_encoder' in it"):
        checkpoint.resolve(tmp_path, subfolder="text_encoder")


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "~/nowhere-at-all", "a/b/c", "epoch/ema.pt", "net"])
def test_paths_that_do_not_exist_are_not_sought_on_the_hub(name):
    with pytest.raises(FileNotFoundError, match="no such file or folder") as error:
        checkpoint.resolve(name)
    assert name in message(error)


def test_hub_name_without_network_is_one_line(offline):
    with pytest.raises(OSError, match="the hub cannot be reached and no copy is cached") as error:
        checkpoint.resolve("nobody/no-such-model")
    assert "nobody/no-such-model: not a local folder" in message(error)
    assert "pass a local folder" in message(error)


def test_invalid_hub_name_is_one_line(offline):
    with pytest.raises(OSError, match="not available from the hub") as error:
        checkpoint.resolve("nobody/no such model?")
    message(error)


def test_cached_snapshot_serves_without_network(offline, net):
    repository = offline / "models--somebody--net"
    revision = "0123456789abcdef0123456789abcdef01234567"
    checkpoint.save(repository / "snapshots" / revision, net, {"depth": 3})
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    folder = checkpoint.resolve("somebody/net")
    assert checkpoint.read_config(folder) == {"depth": 3}
    assert_equal(checkpoint.read_state_dict(folder), net)
    with pytest.raises(FileNotFoundError, match="no folder 'vae'"):
        checkpoint.resolve("somebody/net", subfolder="vae")


def test_revision_and_cache_of_a_hub_name(offline, net, tmp_path):
    repository = tmp_path / "elsewhere" / "models--somebody--net"
    for revision, depth in (("0" * 40, 1), ("1" * 40, 2)):
        checkpoint.save(repository / "snapshots" / revision, net, {"depth": depth})
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "refs" / "v2").write_text("1" * 40)
    hub = checkpoint.HubOptions(cache_dir=tmp_path / "elsewhere", local_files_only=True)
    assert checkpoint.read_config(checkpoint.resolve("somebody/net", hub=hub)) == {"depth": 1}
    hub = checkpoint.HubOptions("v2", tmp_path / "elsewhere", True)
    assert checkpoint.read_config(checkpoint.resolve("somebody/net", hub=hub)) == {"depth": 2}
    with pytest.raises(OSError, match="no copy is cached, and local_files_only is set") as error:
        checkpoint.resolve("somebody/other", hub=hub)
    message(error)


def test_saved_files_can_be_read_like_any_other(tmp_path):
    (tmp_path / "plain").write_text("")
    checkpoint.save(tmp_path, {"weight": torch.ones(2)}, {})
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
