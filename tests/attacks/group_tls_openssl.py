"""Weak TLS, asked for by OpenSSL's own client, which tells the server's own alerts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Final

from tests.attacks.attempt import Attempt, counted
from tests.attacks.model import Attack, Group
from tests.attacks.tls_bytes import NO_TLS, TLS
from tests.support.programs import require_program
from tests.support.timing import PATIENCE


def s_client(attempt: Attempt, *arguments: str, at: int = 0, typed: str = "") -> str:
    """What OpenSSL's own client says, with these lines typed to it."""
    openssl = require_program("openssl", "openssl")
    address = f"127.0.0.1:{attempt.target.addresses[at]}"
    # Without -quiet a letter alone in a line is a command: R renegotiates, K asks for new keys.
    done = subprocess.run(
        [openssl, "s_client", "-connect", address, *arguments],
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.stdout + done.stderr


def found(text: str, *wanted: str) -> str:
    """Those that are in what the client says."""
    return ", ".join(one for one in wanted if one in text) or text


def renegotiates(attempt: Attempt) -> str:
    text = s_client(attempt, "-tls1_2", typed="R\n")
    assert "RENEGOTIATING" in text, text
    return found(text, "no renegotiation")


def old_versions(attempt: Attempt) -> str:
    """With the level at which OpenSSL's client does not refuse them by itself."""
    weak = ("-cipher", "ALL:@SECLEVEL=0")
    told = [
        found(s_client(attempt, "-tls1", *weak), "alert protocol version"),
        found(s_client(attempt, "-tls1_1", *weak), "alert protocol version"),
        found(s_client(attempt, "-tls1_2", at=3), "alert protocol version"),
    ]
    return counted(told)


def weak_ciphers(attempt: Attempt) -> str:
    ciphers = ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "aNULL", "eNULL")
    return counted(
        [
            found(s_client(attempt, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0"), "alert handshake failure")
            for cipher in ciphers
        ]
    )


def compression(attempt: Attempt) -> str:
    text = s_client(attempt, "-tls1_2", "-comp", "-cipher", "DEFAULT:@SECLEVEL=0")
    return found(text, "Compression: NONE")


def key_updates(attempt: Attempt) -> str:
    """Requests for new keys, each of which has to be answered."""
    text = s_client(attempt, "-tls1_3", typed="K\n" * 200)
    assert text.count("KEYUPDATE") >= 1, text
    return found(text, "TLSv1.3")


def client_certificates(attempt: Attempt) -> str:
    folder = attempt.folder
    # -ign_eof: the alert comes behind the handshake, which is over for the client by then.
    ours = ("-cert", str(folder / "self-signed.pem"), "-key", str(folder / "self-signed.key"))
    told = [
        found(s_client(attempt, "-ign_eof", at=2), "alert certificate required"),
        found(s_client(attempt, "-ign_eof", *ours, at=2), "alert unknown ca", "alert bad certificate"),
    ]
    return counted(told)


def names(*asked: str) -> Callable[[Attempt], str]:
    """The certificate that is shown to who asks for that name."""

    def play(attempt: Attempt) -> str:
        told = []
        for name in asked:
            text = s_client(attempt, "-servername", name)
            told.append(found(text, "subject=CN = localhost", "subject=CN = other.example", "alert"))
        return counted(told)

    return play


OPENSSL: Final = (
    Attack("a renegotiation", "no renegotiation", renegotiates, known="CVE-2011-1473, CVE-2021-3449", setup=TLS),
    Attack(
        "TLS 1.0, TLS 1.1, and TLS 1.2 where `min_version` is 1.3",
        "3 x alert protocol version",
        old_versions,
        (NO_TLS + "TLS: unsupported protocol",),
        "RFC 8996, CVE-2014-3566",
        TLS,
    ),
    Attack(
        "ciphers without forward secrecy, with CBC, without a certificate, without encryption",
        "4 x alert handshake failure",
        weak_ciphers,
        (NO_TLS + "TLS: no shared cipher",),
        "CVE-2013-0169",
        TLS,
    ),
    Attack("compression", "Compression: NONE", compression, known="CVE-2012-4929", setup=TLS),
    Attack("200 requests for new keys", "TLSv1.3", key_updates, setup=TLS),
    Attack(
        "no certificate where one is required; one that nobody vouches for",
        "alert certificate required, alert unknown ca",
        client_certificates,
        (
            NO_TLS + "TLS: peer did not return a certificate",
            NO_TLS + "client certificate: self-signed certificate",
        ),
        "CWE-295",
        TLS,
    ),
    Attack(
        "server names: another certificate's, nobody's, of 255 bytes, in capitals, with a NUL's escape",
        "subject=CN = other.example, 2 x subject=CN = localhost, subject=CN = other.example, subject=CN = localhost",
        names(
            "other.example", "nobody.example", "x" * 63 + ".example", "OTHER.EXAMPLE", "other.example%00.evil.example"
        ),
        known="CVE-2026-27448",
        setup=TLS,
    ),
)

GROUPS: Final = (Group(20, "Weak TLS, asked for by `openssl s_client`", OPENSSL),)
