"""Certificates of listeners over time: kept, read again, warned of.  With a real context, files and handshakes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.ca import Authority, Issued
from tests.support.handshakes import shake, tls_of
from tests.support.logged import logged
from tests.support.timing import MS, PATIENCE
from wsd import log, renewal
from wsd.certificates import RevocationInfo
from wsd.config import Config, Listen, Tls
from wsd.context import Context
from wsd.errors import ConfigError
from wsd.renewal import Held, Holdings, Renewal


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def context() -> Iterator[Context]:
    with Context() as context:
        yield context


def keyed(*tables: Tls) -> list[tuple[int, Listen]]:
    return [(1000 + number, Listen(port=0, tls=tls)) for number, tls in enumerate(tables)]


def read(listens: list[tuple[int, Listen]], held: Holdings | None = None) -> Holdings:
    return renewal.read(Config(), listens, held or {})


def replace(old: Issued, new: Issued) -> None:
    os.replace(new.private_key, old.private_key)
    os.replace(new.certificate, old.certificate)


def holding(context: Context, listens: list[tuple[int, Listen]], seconds: float = 0) -> Renewal:
    made = Renewal(context)
    made.take_over(read(listens), listens, seconds)
    return made


# -- reading ----------------------------------------------------------------------------------------------------------


def test_only_listeners_with_tls_hold_something(ca: Authority) -> None:
    held = read(keyed(Tls(), tls_of(ca.issue(["a.example"]))))
    assert list(held) == [1001]
    assert shake(held[1001].tls).shown == ["a.example"]


def test_what_is_wrong_with_all_of_them_is_told(ca: Authority, tmp_path: Path) -> None:
    missing = Tls(certificate=str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError) as caught:
        read(keyed(missing, tls_of(ca.issue(["b.example"])), missing))
    assert [problem.key for problem in caught.value.problems] == [
        "listen[0].tls.certificate",
        "listen[2].tls.certificate",
    ]


def test_what_has_not_changed_is_kept(ca: Authority) -> None:
    issued = ca.issue(["kept.example"])
    listens = keyed(tls_of(issued))
    before = read(listens)
    assert read(listens, before)[1000] is before[1000]


def test_what_has_changed_is_read_again(ca: Authority) -> None:
    issued = ca.issue(["changed.example"])
    before = read(keyed(tls_of(issued)))
    assert read(keyed(tls_of(issued, min_version="1.3")), before)[1000] is not before[1000]
    raw = [(1000, Listen(port=0, accept="raw", default_protocol="x", tls=tls_of(issued)))]
    assert read(raw, before)[1000] is not before[1000]
    replace(issued, ca.issue(["changed.example"], subject="New", file="changed-new"))
    again = read(keyed(tls_of(issued)), before)
    assert shake(again[1000].tls).shown == ["New"]
    assert read(keyed(Tls()), before) == {}


def test_a_listener_that_moved_in_the_file_is_named_by_its_place(ca: Authority, context: Context) -> None:
    issued = ca.issue(["moved.example"])
    ((key, listen),) = keyed(tls_of(issued))
    made = holding(context, [(key, listen)])
    listens = [(1, Listen(port=0)), (key, listen)]
    made.take_over(read(listens, made.held), listens, 0)
    os.remove(issued.certificate)
    with logged() as lines:
        made.look()
    assert len(lines) == 1
    assert "listen[1].tls.certificate: " in lines[0]
    made.close()


# -- looking ----------------------------------------------------------------------------------------------------------


def test_a_file_that_changed_is_read_again(ca: Authority, context: Context) -> None:
    issued = ca.issue(["timer.example"])
    made = holding(context, keyed(tls_of(issued)), 20 * MS)
    replace(issued, ca.issue(["timer.example"], subject="New", file="timer-new"))
    with logged() as lines:
        deadline = context.call_later(PATIENCE, lambda: pytest.fail("it was not read again"))
        while not lines:
            context.service()
        deadline.cancel()
    (line,) = lines
    assert line.startswith(f"certificate read again: {issued.certificate} (timer.example), good for ")
    assert shake(made.held[1000].tls).shown == ["New"]
    made.close()
    assert not context.timers


def test_half_of_a_renewal_is_said_once_and_tried_again(ca: Authority, context: Context) -> None:
    issued = ca.issue(["half.example"])
    made = holding(context, keyed(tls_of(issued)))
    tls = made.held[1000].tls
    new = ca.issue(["half.example"], subject="New", file="half-new")
    os.replace(new.certificate, issued.certificate)
    with logged() as lines:
        for _ in range(3):
            made.look()
            assert shake(tls).shown == ["half.example"]
        (line,) = lines
        assert line.startswith("a certificate was replaced, and cannot be used yet: ")
        assert "listen[0].tls.private_key: " in line
        assert "does not belong to the certificate" in line
        os.replace(new.private_key, issued.private_key)
        made.look()
        assert "certificate read again" in lines[-1]
    assert shake(tls).shown == ["New"]
    made.close()


def test_another_mistake_is_said_too(ca: Authority, context: Context) -> None:
    issued = ca.issue(["mistakes.example"])
    made = holding(context, keyed(tls_of(issued)))
    with logged() as lines:
        issued.private_key.chmod(0o644)
        os.utime(issued.private_key)
        made.look()
        issued.private_key.unlink()
        made.look()
        made.look()
    assert ["everybody can read" in lines[0], "cannot be read" in lines[1]] == [True, True]
    assert len(lines) == 2
    made.close()


def test_0_looks_at_no_file(ca: Authority, context: Context) -> None:
    issued = ca.issue(["never.example"], days=20)
    with logged() as lines:
        made = holding(context, keyed(tls_of(issued)), 0)
        assert len(lines) == 1
        replace(issued, ca.issue(["never.example"], days=5, subject="New", file="never-new"))
        made._due()
        assert shake(made.held[1000].tls).shown == ["never.example"]
        assert len(lines) == 1
    assert len(context.timers) == 1  # for the calendar
    made.close()


def test_without_tls_there_is_no_timer(context: Context) -> None:
    made = holding(context, keyed(Tls()), 60)
    assert not context.timers
    assert made.status() == []
    made.close()


# -- the end of a certificate -----------------------------------------------------------------------------------------


def test_each_stage_is_said_once(ca: Authority, context: Context) -> None:
    issued = ca.issue(["ends.example"], days=20)
    with logged(log.WARN) as lines:
        made = holding(context, keyed(tls_of(issued)))
        made.look()
        made.take_over(made.held, keyed(tls_of(issued)), 0)
        (line,) = lines
        assert line.startswith(f"{issued.certificate}: the certificate for ends.example ends in 19 days, on ")
        replace(issued, ca.issue(["ends.example"], days=3, file="ends-3"))
        made.look()
        made.look()
        assert "ends in 2 days" in lines[-1]
        replace(issued, ca.issue(["ends.example"], days=90, file="ends-90"))
        made.look()
        assert len(lines) == 2
        replace(issued, ca.issue(["ends.example"], days=6, file="ends-6"))
        made.look()
        assert len(lines) == 3
    made.close()


def test_a_list_of_the_revoked_that_is_out_of_date_is_said_once(ca: Authority, context: Context) -> None:
    issued = ca.issue(["crl.example"])
    fields = {"client_certificates": "optional", "client_ca": str(ca.certificate)}
    crl, old = ca.crl(), ca.crl(days=-1, file="old-crl.pem")
    listens = keyed(tls_of(issued, client_crl=str(crl), **fields))
    with logged() as lines:
        made = holding(context, listens)
        made.look()
        assert lines == []
        # What was good when it was read is not any more.
        late = RevocationInfo(str(crl), x509.load_pem_x509_crl(old.read_bytes()))
        made.held[1000].tls._contexts.revocations = [late]
        made.look()
        made.look()
        (line,) = lines
        assert line.startswith(f"{crl}: the list of CN=Test CA is out of date since ")
        ca.crl()
        made.look()
        assert "certificate read again" in lines[-1]
    made.close()


def test_status_and_warnings(ca: Authority, context: Context) -> None:
    near, far = ca.issue(["near.example"], days=6.5), ca.issue(["far.example"], days=100)
    odd = tls_of(far, ciphers="DEFAULT:NONSENSE")
    with logged() as lines:
        made = holding(context, keyed(tls_of(near), odd, tls_of(near)))
    assert "tls.ciphers: this OpenSSL has no cipher NONSENSE" in lines
    one, other = made.status()
    assert (one["file"], one["names"], one["days_left"]) == (str(near.certificate), ["near.example"], 6)
    assert datetime.fromisoformat(one["not_after"]) == near.x509.not_valid_after_utc
    assert "ends in 6 days" in one["warning"]
    assert (other["names"], other["warning"]) == (["far.example"], "")
    texts = renewal.warnings(made.held)
    assert texts == ["tls.ciphers: this OpenSSL has no cipher NONSENSE", one["warning"]]
    assert all(isinstance(item, Held) for item in made.held.values())
    made.close()
