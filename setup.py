"""The optional extension; everything else is in pyproject.toml.

Where it cannot be compiled (no compiler, or no headers of Python) the install succeeds without it, and wsd runs on the
Python twins of its functions; `wsd --version` says which.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "wsd._native",
            ["wsd/_native.c", "wsd/_broadcast.c", "wsd/_straight.c", "wsd/_tls.c"],
            depends=["wsd/_native.h"],
            # -O3: the loop over a payload is worth the compiler's vectors, for which some Pythons' -O2 does not ask.
            extra_compile_args=["-O3"],
            optional=True,
        )
    ]
)
