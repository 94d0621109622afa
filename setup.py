"""The optional extensions; everything else is in pyproject.toml.

Where they cannot be compiled (no compiler, or no headers of Python) the install succeeds without them, and wsd runs on
the Python twins of their functions; `wsd --version` says which.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            f"wsd.{name}",
            [f"wsd/{source}.c" for source in sources],
            depends=["wsd/_native.h"],
            # -O3: the loop over a payload is worth the compiler's vectors, for which some Pythons' -O2 does not ask.
            extra_compile_args=["-O3"],
            optional=True,
        )
        for name, sources in (
            ("_native", ("_native", "_broadcast", "_straight", "_tls")),
            ("_arrival", ("_arrival",)),
        )
    ]
)
