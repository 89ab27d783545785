"""Read and write checkpoints: a folder with ``config.json`` and weights, or one file of weights.

Weights go straight from the file into a module built on the meta device, so that nothing is initialised only
to be overwritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
HUB_PATTERNS = (CONFIG_NAME, "*.safetensors", "*.safetensors.index.json")
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
# Where training code wraps the weights in a larger dict; averaged weights are the ones to sample with.
WRAPPERS = ("ema", "state_dict", "model")
NUM_LISTED = 10

Module = TypeVar("Module", bound=nn.Module)


def resolve(
    folder_or_hub_name: str | Path, *, subfolder: str | None = None, patterns: Sequence[str] | None = None
) -> Path:
    """Find a checkpoint on this machine, downloading it from the hub when it is not a local path.

    Args:
        folder_or_hub_name: a local folder or file, or a hub name ``owner/name``.
        subfolder: folder inside it.
        patterns: names of the files to download; `HUB_PATTERNS` by default. Only files at the top level of
            the repository, or of `subfolder`, are taken.

    Returns:
        An existing local folder or file.

    Raises:
        OSError: there is no such path, and the hub cannot give it.
    """
    name = str(folder_or_hub_name)
    local = Path(name).expanduser()
    if local.exists():
        path = local / subfolder if subfolder else local
        if not path.exists():
            raise FileNotFoundError(f"{local}: expected a folder {subfolder!r} in it; check the path")
        return path
    is_file_name = local.suffix in (".safetensors", *PICKLE_SUFFIXES)
    if is_file_name or local.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise FileNotFoundError(f"{name}: no such file or folder; pass an existing folder or a hub name owner/name")
    patterns = patterns or HUB_PATTERNS
    root = _download(name, subfolder, patterns)
    path = root / subfolder if subfolder else root
    if not path.is_dir():
        raise FileNotFoundError(f"{name}: the hub repository has no folder {subfolder!r} with {', '.join(patterns)}")
    return path


def _download(name: str, subfolder: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import LocalEntryNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError

    prefix = f"{subfolder}/" if subfolder else ""
    try:
        folder = snapshot_download(
            name,
            allow_patterns=[prefix + pattern for pattern in patterns],
            ignore_patterns=[f"{prefix}*/*"],
        )
    except Exception as error:  # its network errors come from other libraries, and differ between versions
        if isinstance(error, RepositoryNotFoundError):
            reason = "the hub has no such repository, or gives no access to it"
        elif isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
            reason = "the hub cannot be reached and no copy is cached"
        else:
            reason = first_line(error)
        raise OSError(
            f"{name}: not a local folder, and not to be had from the hub ({reason}); "
            "pass a local folder that holds config.json and the weights, or connect to the network"
        ) from error
    return Path(folder)


def read_config(path: str | Path) -> dict[str, Any]:
    """Read ``config.json`` in a folder, or beside a file of weights.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not a JSON object.
    """
    path = Path(path)
    file = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found; a checkpoint needs its config.json beside the weights")
    config = _read_json(file)
    if not isinstance(config, dict):
        raise ValueError(f"{file}: expected a JSON object, got {type(config).__name__}")
    return config


def write_config(folder: str | Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json``, creating the folder."""
    write_json(Path(folder) / CONFIG_NAME, config)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as JSON; the file appears complete or not at all."""
    with _replacing(file) as temporary:
        temporary.write_text(json.dumps(dict(content), indent=2) + "\n", encoding="utf-8")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the weights in a folder or file.

    Takes safetensors (in one file or in shards with an index) before pickled files; of those only tensors are
    unpickled. A dict that wraps the weights (`WRAPPERS`) is opened. The tensors are mapped from the file, so
    that casting them later does not hold two copies in memory.

    Args:
        path: a folder, or a file ending in .safetensors, .pt, .pth, .bin or .ckpt.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        FileNotFoundError: there are no weights, or a shard is missing.
        ValueError: a file is corrupt or holds something else; or it is not clear which file is meant.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: not found")
    state: dict[str, Tensor] = {}
    for file in _weight_files(path) if path.is_dir() else [path]:
        state.update(_read_file(file))
    return state


def weight_bytes(folder_or_hub_name: str | Path) -> int | None:
    """Return the size of a checkpoint's weights on this machine, or None if they are not there yet.

    Of files in several formats those are counted that are read. Parts of a pipeline are looked for in their folders.
    """
    path = Path(folder_or_hub_name).expanduser()
    if not path.exists():
        from huggingface_hub import snapshot_download

        try:
            path = Path(snapshot_download(str(folder_or_hub_name), local_files_only=True))
        except Exception:  # no copy in the cache, or not a name of the hub at all, which loading it will say
            return None
    if path.is_file():
        return path.stat().st_size
    for suffixes in ((".safetensors",), PICKLE_SUFFIXES):
        files = [file for pattern in ("*", "*/*") for file in path.glob(pattern) if file.suffix in suffixes]
        if files:
            return sum(file.stat().st_size for file in files)
    return None


def _weight_files(folder: Path) -> list[Path]:
    for suffixes in ((".safetensors",), PICKLE_SUFFIXES):
        files = sorted(file for file in folder.iterdir() if file.suffix in suffixes and file.is_file())
        indices = [file for suffix in suffixes for file in sorted(folder.glob(f"*{suffix}.index.json"))]
        if len(files) == 1 and not indices:
            return files
        named = [file for file in files if file.stem in ("model", "pytorch_model", "diffusion_pytorch_model")]
        if len(named) == 1:
            return named
        if len(indices) == 1:
            return _shards(indices[0])
        if files or indices:
            names = ", ".join(file.name for file in (indices or files)[:NUM_LISTED])
            raise ValueError(f"{folder}: several files of weights ({names}); pass the one that is meant")
    raise FileNotFoundError(f"{folder}: no weights; expected *.safetensors or one of *{', *'.join(PICKLE_SUFFIXES)}")


def _shards(index: Path) -> list[Path]:
    content = _read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index}: expected a 'weight_map' from names to files; download it again")
    files = [index.parent / name for name in sorted(set(weight_map.values()))]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: not found, but {index.name} lists it; download it again")
    return files


def _read_file(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file}: corrupt or truncated ({first_line(error)}); download it again") from error
    if file.suffix in PICKLE_SUFFIXES:
        return _read_pickle(file)
    raise ValueError(f"{file}: expected a name ending in .safetensors or {', '.join(PICKLE_SUFFIXES)}")


def _read_pickle(file: Path) -> dict[str, Tensor]:
    is_archive = zipfile.is_zipfile(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        what = "holds objects other than tensors" if is_archive else "corrupt or truncated"
        raise ValueError(f"{file}: {what}; download it again, or save its tensors as safetensors") from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{file}: corrupt or truncated ({first_line(error)}); download it again") from error
    while isinstance(content, dict):
        wrapped = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if wrapped is None:
            break
        content = wrapped
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file}: expected tensors by name, or such a dict under {', '.join(WRAPPERS)}")
    return dict(content)


def load_into(
    module: Module,
    state_dict: Mapping[str, Tensor],
    *,
    source: str | Path,
    dtype: torch.dtype | None = None,
    ignore: Iterable[str] = (),
) -> Module:
    """Make the tensors of `state_dict` the parameters and buffers of `module`.

    Args:
        module: built under ``torch.device("meta")``; its persistent tensors are all replaced. Buffers that
            are not persistent it must build itself.
        state_dict: tensors by name.
        source: where they come from, for the error.
        dtype: type to cast floating-point tensors to; None keeps the file's.
        ignore: patterns (as in a shell) of names in `state_dict` that are not wanted.

    Returns:
        `module`.

    Raises:
        ValueError: names are missing, unexpected or of another shape; they are listed.
    """
    ignore = tuple(ignore)
    given = {
        name: tensor for name, tensor in state_dict.items() if not any(fnmatchcase(name, pattern) for pattern in ignore)
    }
    expected = module.state_dict()
    problems = [
        _listing("missing", [name for name in expected if name not in given]),
        _listing("unexpected", [name for name in given if name not in expected]),
        _listing(
            "of another shape",
            [
                f"{name}: expected {list(expected[name].shape)}, got {list(tensor.shape)}"
                for name, tensor in given.items()
                if name in expected and expected[name].shape != tensor.shape
            ],
        ),
    ]
    if any(problems):
        raise ValueError(
            f"{source} does not fit {type(module).__name__}: {'; '.join(filter(None, problems))}; "
            "check that weights and config.json belong together"
        )
    if dtype is not None:
        given = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in given.items()}
    module.load_state_dict(given, assign=True)
    return module


def _listing(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > NUM_LISTED else ""
    return f"{len(names)} {what} ({', '.join(names[:NUM_LISTED])}{more})"


def save(folder: str | Path, module_or_state: nn.Module | Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write ``config.json`` and ``model.safetensors``, each complete or not at all, creating the folder.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = module_or_state.state_dict() if isinstance(module_or_state, nn.Module) else module_or_state
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with _replacing(Path(folder) / WEIGHTS_NAME) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"{folder}: cannot write {WEIGHTS_NAME} ({first_line(error)})") from error
    write_config(folder, config)


@contextlib.contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """Give a temporary path beside `file` that becomes `file` on success and is removed on failure."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what the umask gives; safetensors leaves files that only their owner can read
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not valid JSON ({first_line(error)}); download it again") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
