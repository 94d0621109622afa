"""The optional extensions; everything else is in pyproject.toml.

Where they cannot be compiled (no compiler, or no headers of Python) the install succeeds without them, and wsd runs on
the Python twins of their functions; `wsd --version` says which.
"""

from setuptools import Extension, setup

# -O3: the loop over a payload is worth the compiler's vectors, for which some Pythons' own -O2 does not ask.
setup(
    ext_modules=[
        Extension(f"wsd.{name}", [f"wsd/{name}.c"], extra_compile_args=["-O3"], optional=True)
        for name in ("_native", "_arrival")
    ]
)
