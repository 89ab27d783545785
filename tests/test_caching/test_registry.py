"""Names of policies: registered ones, and what has none."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest

from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.caching.registry import POLICIES, command_name, config_class, register, type_name


@dataclass(frozen=True)
class MyConfig(PlannedConfig):
    """Settings of somebody else's policy."""


@pytest.fixture
def registered(monkeypatch):
    """Register the settings under the package that exports them, which is not the module that defines them."""
    package = ModuleType("my_package")
    package.MyConfig = MyConfig
    monkeypatch.setitem(sys.modules, "my_package", package)
    monkeypatch.setattr("opensora_adacache.caching.registry.POLICIES", dict(POLICIES))
    register("Mine", "my_package:MyConfig")


@pytest.mark.usefixtures("registered")
def test_a_policy_from_outside_has_a_name():
    assert config_class("Mine") is MyConfig
    assert type_name(MyConfig) == "Mine" and command_name(MyConfig) == "mine"
    register("Mine", "my_package:MyConfig")
    with pytest.raises(ValueError, match="the policy name 'Mine' is taken by my_package:MyConfig: choose another"):
        register("Mine", "my_package:OtherConfig")


def test_settings_without_a_name():
    with pytest.raises(ValueError, match="MyConfig has no name in configs: register one with register"):
        type_name(MyConfig)
