"""Reads and writes checkpoints: a folder with ``config.json`` and weights, or a single file of weights.

Weights are read from the file directly into a module built on the meta device, so that nothing is initialized only to
be overwritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from opensora_adacache.errors.family import CheckpointError, DownloadError, MissingFileError, WriteError

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
HUB_PATTERNS = (CONFIG_NAME, "*.safetensors", "*.safetensors.index.json")
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
# Keys under which training code nests the weights in a larger dict; averaged weights are the ones to sample with.
WRAPPERS = ("ema", "state_dict", "model")
NUM_LISTED = 10

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class HubOptions:
    """How a checkpoint is downloaded from the hub; not used for local paths.

    Attributes:
        revision: branch, tag or commit; None is the newest.
        cache_dir: folder for downloaded files; None is the hub's default.
        local_files_only: use only files that are already downloaded, without network access.
    """

    revision: str | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False


def resolve(
    folder_or_hub_name: str | Path,
    *,
    subfolder: str | None = None,
    patterns: Sequence[str] | None = None,
    hub: HubOptions | None = None,
) -> Path:
    """Find a checkpoint on this machine, downloading it from the hub if it is not a local path.

    Args:
        folder_or_hub_name: a local folder or file, or a hub name ``owner/name``.
        subfolder: folder inside it.
        patterns: names of the files to download; `HUB_PATTERNS` by default. Only files at the top level of the
            repository, or of `subfolder`, are downloaded.
        hub: revision, cache and network options.

    Returns:
        An existing local folder or file.

    Raises:
        DownloadError: the path does not exist, and the hub does not provide it.
    """
    name = str(folder_or_hub_name)
    local = Path(os.path.expanduser(name))
    if os.path.exists(local):
        path = local / subfolder if subfolder else local
        if not path.exists():
            raise MissingFileError(f"{local}: expected a folder {subfolder!r} in it; check the path")
        return path
    is_file_name = local.suffix in (".safetensors", *PICKLE_SUFFIXES)
    if is_file_name or local.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise MissingFileError(f"{name}: no such file or folder; pass an existing folder or a hub name owner/name")
    patterns = patterns or HUB_PATTERNS
    root = _download(name, subfolder, patterns, hub or HubOptions())
    path = root / subfolder if subfolder else root
    if not path.is_dir():
        raise MissingFileError(f"{name}: the hub repository has no folder {subfolder!r} with {', '.join(patterns)}")
    return path


def _download(name: str, subfolder: str | None, patterns: Sequence[str], hub: HubOptions) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import (
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    prefix = f"{subfolder}/" if subfolder else ""
    try:
        folder = snapshot_download(
            name,
            revision=hub.revision,
            cache_dir=hub.cache_dir,
            local_files_only=hub.local_files_only,
            allow_patterns=[prefix + pattern for pattern in patterns],
            ignore_patterns=[f"{prefix}*/*"],
        )
    except Exception as error:  # network errors come from other libraries and differ between versions
        if isinstance(error, RepositoryNotFoundError):
            reason = "the hub has no such repository, or denies access to it"
        elif isinstance(error, RevisionNotFoundError):
            reason = f"the repository has no revision '{hub.revision}'"
        elif isinstance(error, LocalEntryNotFoundError) and hub.local_files_only:
            reason = "no copy is cached, and local_files_only is set"
        elif isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
            reason = "the hub cannot be reached and no copy is cached"
        else:
            reason = first_line(error)
        raise DownloadError(
            f"{name}: not a local folder, and not available from the hub ({reason}); "
            "pass a local folder that holds config.json and the weights, or connect to the network"
        ) from error
    return Path(folder)


def read_config(path: str | Path) -> dict[str, Any]:
    """Read ``config.json`` in a folder or next to a file of weights.

    Raises:
        MissingFileError: the file does not exist.
        CheckpointError: the file is not a JSON object.
    """
    path = Path(path)
    file = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if not file.is_file():
        raise MissingFileError(f"{file}: not found; a checkpoint needs its config.json next to the weights")
    config = _read_json(file)
    if not isinstance(config, dict):
        raise CheckpointError(f"{file}: expected a JSON object, got {type(config).__name__}")
    return config


def write_config(folder: str | Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json``, creating the folder if needed."""
    write_json(Path(folder) / CONFIG_NAME, config)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as JSON; the file appears either complete or not at all."""
    with _replacing(file) as temporary:
        temporary.write_text(json.dumps(dict(content), indent=2) + "\n", encoding="utf-8")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the weights in a folder or file.

    Safetensors (one file, or shards with an index) take precedence over pickled files, from which only tensors are
    unpickled. A dict that nests the weights (`WRAPPERS`) is unwrapped. Tensors are memory-mapped from the file, so
    casting them later does not hold two copies in memory.

    Args:
        path: a folder, or a file ending in .safetensors, .pt, .pth, .bin or .ckpt.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        MissingFileError: there are no weights, or a shard is missing.
        CheckpointError: a file is corrupt or holds something else, or the choice of file is ambiguous.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path}: not found")
    state: dict[str, Tensor] = {}
    for file in _weight_files(path) if path.is_dir() else [path]:
        state.update(_read_file(file))
    return state


def weight_bytes(folder_or_hub_name: str | Path, hub: HubOptions | None = None) -> int | None:
    """Return the size of a checkpoint's weights on this machine, or None if they are not there yet.

    If there are files in several formats, only those that would be read count. The parts of a pipeline are searched for
    in their subfolders.
    """
    path = Path(os.path.expanduser(folder_or_hub_name))
    if not os.path.exists(path):
        from huggingface_hub import snapshot_download

        hub = hub or HubOptions()
        name = str(folder_or_hub_name)
        try:
            path = Path(snapshot_download(name, revision=hub.revision, cache_dir=hub.cache_dir, local_files_only=True))
        except Exception:  # not in the cache, or not a hub name at all, which loading it will report
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
            raise CheckpointError(f"{folder}: several files of weights ({names}); pass the path of one of them")
    raise MissingFileError(f"{folder}: no weights; expected *.safetensors or one of *{', *'.join(PICKLE_SUFFIXES)}")


def _shards(index: Path) -> list[Path]:
    content = _read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: expected a 'weight_map' from names to files; download it again")
    if not all(isinstance(name, str) and Path(name).name == name for name in weight_map.values()):
        raise CheckpointError(f"{index}: expected names of files next to it in 'weight_map'; download it again")
    files = [index.parent / name for name in sorted(set(weight_map.values()))]
    for file in files:
        if not file.is_file():
            raise MissingFileError(f"{file}: not found, but {index.name} lists it; download it again")
    return files


def _read_file(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except SafetensorError as error:
            raise CheckpointError(f"{file}: corrupt or truncated ({first_line(error)}); download it again") from error
    if file.suffix in PICKLE_SUFFIXES:
        return _read_pickle(file)
    raise CheckpointError(f"{file}: expected a name ending in .safetensors or {', '.join(PICKLE_SUFFIXES)}")


def _read_pickle(file: Path) -> dict[str, Tensor]:
    is_archive = zipfile.is_zipfile(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        what = "holds objects other than tensors" if is_archive else "corrupt or truncated"
        raise CheckpointError(f"{file}: {what}; download it again, or save its tensors as safetensors") from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file}: corrupt or truncated ({first_line(error)}); download it again") from error
    while isinstance(content, dict):
        wrapped = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if wrapped is None:
            break
        content = wrapped
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{file}: expected tensors by name, or such a dict under {', '.join(WRAPPERS)}")
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
        module: built under ``torch.device("meta")``; all its persistent tensors are replaced. It must create
            non-persistent buffers itself.
        state_dict: tensors by name.
        source: where they come from, for error messages.
        dtype: dtype to cast floating-point tensors to; None keeps the file's.
        ignore: shell-style patterns of names in `state_dict` to skip.

    Returns:
        `module`.

    Raises:
        CheckpointError: names are missing or unexpected, or have another shape or kind of dtype; the message lists
            them.
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
            "of another kind",
            [
                f"{name}: expected {_kind(expected[name])}, got {str(tensor.dtype).removeprefix('torch.')}"
                for name, tensor in given.items()
                if name in expected and _kind(expected[name]) != _kind(tensor)
            ],
        ),
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
        raise CheckpointError(
            f"{source} does not fit {type(module).__name__}: {'; '.join(filter(None, problems))}; "
            "check that weights and config.json belong together"
        )
    if dtype is not None:
        given = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in given.items()}
    module.load_state_dict(given, assign=True)
    return module


def _kind(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        return "floating point"
    return "complex numbers" if tensor.is_complex() else "bool" if tensor.dtype == torch.bool else "whole numbers"


def _listing(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > NUM_LISTED else ""
    return f"{len(names)} {what} ({', '.join(names[:NUM_LISTED])}{more})"


def save(folder: str | Path, module_or_state: nn.Module | Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write ``config.json`` and ``model.safetensors``, each complete or not at all; create the folder if needed.

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
            raise WriteError(f"{folder}: cannot write {WEIGHTS_NAME} ({first_line(error)})") from error
    write_config(folder, config)


@contextlib.contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary path next to `file` that becomes `file` on success and is removed on failure."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # the umask's; safetensors creates files that only their owner can read
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise CheckpointError(f"{file}: not valid JSON (nested too deeply); download it again") from None
    except ValueError as error:
        raise CheckpointError(f"{file}: not valid JSON ({first_line(error)}); download it again") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
