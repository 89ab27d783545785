"""Read YAML as data, with the numbers of YAML 1.2 and without keys that occur twice."""

from __future__ import annotations

import re
from typing import Any

import yaml

from opensora_adacache.errors.shown import one_line
from opensora_adacache.presets.json_object import unique_keys

_INT, _FLOAT, _STR, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "str", "merge"))
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")


def load_yaml(text: str) -> Any:
    """Return what a YAML document holds. Tags that create Python objects, and so run code, are refused.

    Raises:
        ValueError: it is not such a document, or a key occurs twice in a mapping.

    >>> load_yaml("aspect_ratio: 9:16")
    {'aspect_ratio': '9:16'}
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.constructor.ConstructorError as error:
        raise ValueError(f"{error.problem}; YAML configs hold plain data only, use a .py config to compute") from None
    except (AttributeError, KeyError, IndexError):  # PyYAML's, for values such as "!!timestamp x" and "!!bool x"
        raise ValueError("not valid YAML: a value does not fit its tag") from None
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {one_line(error)}") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which reads 9:16 as a number to the base of 60, 1e3 as text, and drops repeated keys."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)
        if kind is not yaml.ScalarNode or not implicit[0]:
            return tag
        if tag in (_INT, _FLOAT) and ":" in value:
            return _STR
        return _FLOAT if tag == _STR and _EXPONENT.fullmatch(value) else tag

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        keys = (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE)
        unique_keys((self.construct_object(key), None) for key in keys)
        return node
