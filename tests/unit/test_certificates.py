"""Certificates and keys as files: what is wrong with them is said with the file and what was expected."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.ca import Authority, Issued, new_key
from wsd.certificates import CertificateInfo, Reading, identity, names_of


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def read(issued: Issued) -> Reading:
    reading = Reading()
    pair = reading.pair("", str(issued.certificate), str(issued.private_key))
    assert (pair is None) == bool(reading.faults)
    return reading


def fault(reading: Reading, option: str, file: Path) -> str:
    """The one thing that is wrong, which must be about that option and file."""
    (found,) = reading.faults
    assert found.option == option
    assert found.text.startswith(f"{file}: ")
    return found.text


def fault_of_pair(certificate: Path, private_key: Path | str, option: str, file: Path) -> str:
    reading = Reading()
    assert reading.pair("", str(certificate), str(private_key)) is None
    return fault(reading, option, file)


# -- certificate and key ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_pair(ca: Authority, kind: str) -> None:
    issued = ca.issue(["a.example", "10.0.0.1"], file=f"pair-{kind}", key=kind)  # type: ignore[arg-type]
    reading = Reading()
    pair = reading.pair("", str(issued.certificate), str(issued.private_key))
    assert pair is not None
    assert (reading.faults, reading.warnings) == ([], [])
    assert pair.chain == [issued.x509]
    assert pair.info == CertificateInfo(
        str(issued.certificate), ("a.example", "10.0.0.1"), issued.x509.not_valid_after_utc
    )
    assert pair.info.days_left in (89, 90)


def test_certificate_and_key_in_one_file(ca: Authority) -> None:
    issued = ca.issue(["together.example"], together=True)
    reading = Reading()
    assert reading.pair("", str(issued.certificate), "") is not None
    assert not reading.faults


def test_a_key_behind_its_parameters(ca: Authority, tmp_path: Path) -> None:
    issued = ca.issue(["parameters.example"])  # as `openssl ecparam -genkey` writes it, of prime256v1
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    key = tmp_path / "ec.key"
    key.write_text(parameters + issued.private_key.read_text())
    key.chmod(0o600)
    assert not read(issued._replace(private_key=key)).faults


def test_no_such_file(ca: Authority, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    issued = ca.issue(["missing.example"])
    text = fault_of_pair(missing, issued.private_key, "certificate", missing)
    assert text.endswith("cannot be read: No such file or directory")
    assert "No such file" in fault_of_pair(issued.certificate, missing, "private_key", missing)


def test_both_are_told(tmp_path: Path) -> None:
    reading = Reading()
    assert reading.pair("certificates[3].", str(tmp_path / "a"), str(tmp_path / "b")) is None
    assert [found.option for found in reading.faults] == ["certificates[3].certificate", "certificates[3].private_key"]


def test_what_is_no_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "is no file" in fault_of_pair(fifo, "", "certificate", fifo)
    assert "is no file" in fault_of_pair(tmp_path, "", "certificate", tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x30\x82\x01\x00\xff"])
def test_what_is_no_certificate(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "not.pem"
    file.write_bytes(content)
    assert "holds no certificate in PEM" in fault_of_pair(file, "", "certificate", file)


def test_a_certificate_that_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "damaged.pem"
    file.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    assert "holds a certificate that cannot be read" in fault_of_pair(file, "", "certificate", file)


def test_no_key_where_one_should_be(ca: Authority) -> None:
    issued = ca.issue(["keyless.example"])
    text = fault_of_pair(issued.certificate, "", "certificate", issued.certificate)
    assert "holds no private key in PEM" in text
    assert "set private_key" in text
    text = fault_of_pair(issued.certificate, issued.certificate, "private_key", issued.certificate)
    assert "holds no private key" in text
    assert "set private_key" not in text


def test_a_key_that_is_damaged(ca: Authority, tmp_path: Path) -> None:
    key = tmp_path / "damaged.key"
    key.write_text("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n")
    key.chmod(0o600)
    assert "the key cannot be read" in fault_of_pair(ca.issue(["x"]).certificate, key, "private_key", key)


def test_a_key_with_a_passphrase(ca: Authority, tmp_path: Path) -> None:
    made = new_key()
    issued = ca.issue(["secret.example"], key=made)
    key = tmp_path / "secret.key"
    locked = serialization.BestAvailableEncryption(b"passphrase")
    key.write_bytes(made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    key.chmod(0o600)
    assert "has a passphrase" in fault_of_pair(issued.certificate, key, "private_key", key)


def test_another_certificates_key(ca: Authority) -> None:
    one, other = ca.issue(["one.example"]), ca.issue(["other.example"])
    text = fault_of_pair(one.certificate, other.private_key, "private_key", other.private_key)
    assert text.endswith(f"the key does not belong to the certificate in {one.certificate}")


def test_a_chain_that_begins_with_somebody_else(ca: Authority, tmp_path: Path) -> None:
    issued = ca.issue(["late.example"])
    chain = tmp_path / "reversed.pem"
    chain.write_bytes(ca.certificate.read_bytes() + issued.certificate.read_bytes())
    text = fault_of_pair(chain, issued.private_key, "private_key", issued.private_key)
    assert f"belongs to certificate 2 in {chain}; the server's own must be the first" in text


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666, 0o640 | 0o004])
def test_a_key_that_everybody_can_reach(ca: Authority, mode: int) -> None:
    issued = ca.issue([f"open-{mode:o}.example"])
    issued.private_key.chmod(mode)
    text = fault_of_pair(issued.certificate, issued.private_key, "private_key", issued.private_key)
    assert "everybody can " + ("read" if mode & 4 else "write") in text
    assert f"its mode is {mode:04o}" in text
    assert "chmod 640" in text


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o660])
def test_a_key_that_a_group_can_read(ca: Authority, mode: int) -> None:
    issued = ca.issue([f"group-{mode:o}.example"])
    issued.private_key.chmod(mode)
    assert not read(issued).faults


def test_the_file_behind_a_link_counts(ca: Authority, tmp_path: Path) -> None:
    issued = ca.issue(["link.example"])
    link = tmp_path / "live.key"
    link.symlink_to(issued.private_key)
    assert not read(issued._replace(private_key=link)).faults
    issued.private_key.chmod(0o644)
    assert "everybody can read" in fault_of_pair(issued.certificate, link, "private_key", link)


# -- time -------------------------------------------------------------------------------------------------------------


def test_one_that_has_ended(ca: Authority) -> None:
    issued = ca.issue(["ended.example"], days=-0.5)
    day = f"{issued.x509.not_valid_after_utc:%Y-%m-%d}"
    text = fault_of_pair(issued.certificate, issued.private_key, "certificate", issued.certificate)
    assert f"has ended on {day}" in text


def test_one_that_has_not_begun(ca: Authority) -> None:
    issued = ca.issue(["early.example"], since_days=1)
    text = fault_of_pair(issued.certificate, issued.private_key, "certificate", issued.certificate)
    assert f"begins on {issued.x509.not_valid_before_utc:%Y-%m-%d}" in text
    assert "and here it is" in text


@pytest.mark.parametrize(
    ("days", "stage", "left"),
    [(31, 0, "31 days"), (29.5, 1, "29 days"), (8, 1, "8 days"), (6.5, 2, "6 days"), (1.5, 2, "1 day,")],
)
def test_how_near_its_end_is(days: float, stage: int, left: str) -> None:
    info = CertificateInfo("/a.pem", ("a.example", "b.example"), datetime.now(UTC) + timedelta(days=days, minutes=1))
    assert info.stage == stage
    assert f"ends in {left}" in info.ending
    assert info.ending.startswith("/a.pem: the certificate for a.example, b.example ")


def test_after_its_end() -> None:
    info = CertificateInfo("/a.pem", (), datetime.now(UTC) - timedelta(hours=1))
    assert info.stage == 3
    assert info.days_left == -1
    assert "the certificate for no name has ended" in info.ending


# -- the chain --------------------------------------------------------------------------------------------------------


def test_a_chain(ca: Authority, tmp_path: Path) -> None:
    middle = Authority(tmp_path, "Middle", ca)
    reading = read(middle.issue(["chain.example"]))
    assert not reading.warnings


def test_a_chain_out_of_order(ca: Authority, tmp_path: Path) -> None:
    issued = ca.issue(["order.example"])
    stranger = Authority(tmp_path, "Stranger")
    issued.certificate.write_bytes(issued.certificate.read_bytes() + stranger.certificate.read_bytes())
    (text,) = read(issued).warnings
    assert text == f"{issued.certificate}: certificate 2 is CN=Stranger, where CN=Test CA should follow"


def test_a_chain_with_a_part_that_has_ended(ca: Authority) -> None:
    issued = ca.issue(["part.example"])
    ended = ca.issue([], days=-2, subject="Test CA", file="ended")
    issued.certificate.write_bytes(issued.certificate.read_bytes() + ended.certificate.read_bytes())
    (text,) = read(issued).warnings
    assert "certificate 2 has ended on" in text


def test_the_names_of_a_certificate(ca: Authority) -> None:
    assert names_of(ca.issue(["B.example", "*.b.example", "::1"]).x509) == ("b.example", "*.b.example", "::1")
    assert names_of(ca.issue([], subject="Old.example").x509) == ("old.example",)


def test_names_that_cannot_be_read(ca: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    broken = x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME, b"\x30\xff")
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.OID_COMMON_NAME, "odd")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(broken, critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    assert names_of(certificate) == ("odd",)


# -- authorities and revocations --------------------------------------------------------------------------------------


def test_authorities(ca: Authority, tmp_path: Path) -> None:
    file = tmp_path / "many.pem"
    file.write_bytes(ca.certificate.read_bytes() + Authority(tmp_path / "second", "Second").certificate.read_bytes())
    reading = Reading()
    assert len(reading.authorities("client_ca", str(file))) == 2
    assert not reading.faults


def test_an_authority_that_has_ended(ca: Authority) -> None:
    issued = ca.issue([], days=-3, subject="Old CA", file="old-ca")
    reading = Reading()
    assert reading.authorities("client_ca", str(issued.certificate))
    (text,) = reading.warnings
    assert text.startswith(f"{issued.certificate}: CN=Old CA has ended on ")


def test_revocations(ca: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "Other")
    file = tmp_path / "both.pem"
    file.write_bytes(ca.crl(ca.issue(["gone"])).read_bytes() + other.crl().read_bytes())
    reading = Reading()
    found = reading.revocations("client_crl", str(file))
    assert [crl.issuer for crl in found] == [ca.subject, other.subject]
    assert [len(crl) for crl in found] == [1, 0]


def test_a_list_that_is_out_of_date(ca: Authority) -> None:
    file = ca.crl(days=-1, file="old-crl.pem")
    reading = Reading()
    reading.revocations("client_crl", str(file))
    assert "the list of CN=Test CA is out of date since" in fault(reading, "client_crl", file)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n"])
def test_what_is_no_list(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "crl.pem"
    file.write_bytes(content)
    reading = Reading()
    assert reading.revocations("client_crl", str(file)) == []
    assert "revocation list" in fault(reading, "client_crl", file)


# -- which file it was ------------------------------------------------------------------------------------------------


def test_what_was_read_is_known_again(ca: Authority, tmp_path: Path) -> None:
    issued = ca.issue(["seen.example"])
    reading = read(issued)
    path = str(issued.certificate)
    assert reading.seen[path] == identity(path)
    issued.certificate.write_bytes(issued.certificate.read_bytes() + b"\n")
    assert reading.seen[path] != identity(path)
    assert identity(str(tmp_path / "missing")) is None
