"""wsd/role.py: each role has all that a wsi asks of one, with the same arguments."""

from __future__ import annotations

import inspect

import pytest

from wsd.client import Client
from wsd.http1 import Http1
from wsd.raw import Raw
from wsd.role import Role

NAMES = [name for name, value in vars(Role).items() if inspect.isfunction(value) and not name.startswith("_")]


@pytest.mark.parametrize("role", [Http1, Client, Raw])
@pytest.mark.parametrize("name", NAMES)
def test_each_role_is_one(role: type, name: str) -> None:
    assert inspect.signature(getattr(role, name)) == inspect.signature(getattr(Role, name))


def test_there_is_something_to_be() -> None:
    assert len(NAMES) > 5
