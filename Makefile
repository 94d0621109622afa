# What a person types.  Everything happens in environments of its own beside this file; nothing outside is touched but
# by `make install`, which says what it does.

PYTHON ?= python3
# Further interpreters that run the unit tests where they really start (a pyenv shim may exist and not run).
OTHER_PYTHONS ?= $(foreach v,3.12 3.13,python$(v) $(wildcard $(HOME)/.pyenv/versions/$(v).*/bin/python))
VENV ?= .venv
PREFIX ?= /opt/wsd
DESTDIR ?=
UNITDIR ?= /etc/systemd/system
SYSUSERSDIR ?= /etc/sysusers.d
SECONDS ?= 60
# Of `make bench`: `python -m bench --help` has what it takes.
BENCH ?=
# Of `make bench-micro`: --quick, --update.
MICRO ?=

PY := $(VENV)/bin/python
ROOT := $(DESTDIR)$(PREFIX)
# A stamp tells that an environment is complete, and for which pyproject.toml.
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
BENCH_STAMP := $(VENV)/.installed-bench
# What has to be installed anew when it changes; the extension is compiled at the install.
NATIVE_SOURCES := $(filter-out wsd/_arrival.c,$(wildcard wsd/_*.c))
INSTALLED := pyproject.toml setup.py $(wildcard wsd/_*.c) wsd/_native.h
# What npm writes when it is done: Node's ws library, a peer in tests/interop.
NODE_STAMP := tests/interop/node/node_modules/.package-lock.json
SOURCES := wsd plugins tests docs bench
UNIT_TESTS := tests/unit
# Most tests wait for something, so three at a time keep two cores busy.  The tests of a file stay together, since some
# share a server, or a port of the README's; they begin in the order of tests/conftest.py.
PYTEST := -m pytest --quiet --numprocesses=3 --dist=loadfile --no-loadscope-reorder
# Unit tests wait for nothing: a third at a time would only collect all of them once more.
PYTEST_UNIT := -m pytest --quiet --numprocesses=2 --dist=loadfile
PIP := -m pip --disable-pip-version-check --quiet install

# Compiled modules are kept, whatever the caller's habit (that of many containers is not to): the tests start Python more
# than a thousand times, and to compile wsd is a third of its start.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: help run test check static unit unit-O check-native other-environments others integration conformance coverage fuzz soak attacks bench bench-micro format install uninstall clean python

help:
	@echo "make run         serve etc/wsd.toml in the foreground on 127.0.0.1:7681"
	@echo "make test        set up and run everything: checks, unit, integration, real peers, other Pythons"
	@echo "make check       format, lint, types, unit tests (also under -O), integration: what to run before a commit"
	@echo "make format      let ruff rewrite what it can"
	@echo "make coverage    the whole suite with branch coverage; the report is in htmlcov/"
	@echo "make check-native the C functions: warnings are errors, tests and fuzzing for SECONDS=60 under sanitizers"
	@echo "make conformance RFC 6455 and 7692 case by case, with a table of results; writes docs/conformance.md"
	@echo "make fuzz        run each fuzz target for SECONDS=60 seconds"
	@echo "make attacks     every attack of docs/security.md, with what it cost the daemon; writes the table there"
	@echo "make soak        a daemon under hundreds of good and bad clients for SECONDS=60 seconds, and what is left of it"
	@echo "make bench       wsd beside libwebsockets, picows and websockets; writes docs/performance.md; BENCH='--rows echo' for less"
	@echo "make bench-micro frames, masking, UTF-8, deflate, dispatch, timers: each beside bench/baseline.json"
	@echo "make install     PREFIX=/opt/wsd DESTDIR=: environment, etc/wsd.toml, plugins/, unit, sysusers.d entry"
	@echo "make uninstall   the same PREFIX and DESTDIR; keeps what you edited"
	@echo "make clean       remove the environments and everything generated"
	@echo "PYTHON=$(PYTHON) is the interpreter to build on (3.11 or newer)"

# -- environments ---------------------------------------------------------------------------------------------------

python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is not there: install Python 3.11 or newer (apt-get install python3 python3-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); wsd needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module: apt-get install python3-venv" >&2; exit 1; }

$(RUN_STAMP): $(INSTALLED) | python
	@echo "making $(VENV) and installing wsd into it"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) $(PIP) --editable .
	@touch $@

$(DEV_STAMP): $(INSTALLED) | python
	@echo "making $(VENV) and installing wsd and its test tools into it"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) $(PIP) --editable '.[dev]'
	@touch $@ $(RUN_STAMP)

# The peers, and what draws the plots.  What cannot be had is named by the run, which goes on without it.
$(BENCH_STAMP): $(INSTALLED) | python
	@echo "making $(VENV) and installing wsd and its peers into it"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) $(PIP) --editable '.[bench]' || $(PY) $(PIP) --editable .
	@touch $@ $(RUN_STAMP)

# Without npm, or without its registry, the tests that need it are skipped, which in CI is a failure.
$(NODE_STAMP): tests/interop/node/package-lock.json
	@if ! command -v npm >/dev/null; then echo "npm is not there (apt-get install npm): no tests with Node's ws"; \
	else echo "installing Node's ws library beside its tests"; \
	  npm ci --prefix tests/interop/node --no-audit --no-fund --loglevel=error >/dev/null && touch $@; fi || true

# -- running ----------------------------------------------------------------------------------------------------------

run: $(RUN_STAMP)
	@echo "serving etc/wsd.toml: open the address below with http:// in a browser; Ctrl-C stops it"
	@exec $(VENV)/bin/wsd run -c etc/wsd.toml

# -- checking ---------------------------------------------------------------------------------------------------------

# What keeps one core busy goes beside something else.  The environments of the other Pythons wait for ours, since each
# install writes into the tree.  pytest runs last and once over everything, so that its closing line closes the output.
test:
	@$(MAKE) --no-print-directory --jobs=2 $(DEV_STAMP) $(NODE_STAMP)
	@$(MAKE) --no-print-directory --jobs=3 static unit-O other-environments
	@$(MAKE) --no-print-directory others
	@$(PY) $(PYTEST)

check: static unit unit-O integration

static: $(DEV_STAMP)
	@$(PY) -m ruff format --check --quiet $(SOURCES) || { echo "not formatted: make format" >&2; exit 1; }
	@$(PY) -m ruff check --quiet $(SOURCES)
	@$(PY) -m mypy wsd plugins docs/examples

unit: $(DEV_STAMP)
	@$(PY) $(PYTEST_UNIT) $(UNIT_TESTS)

# Two things at once, which have nothing to do with each other: what the C functions do is done by their Python twins; and
# nothing in wsd may rest on an assert's side effect (the tests' own asserts are kept: pytest rewrites them to ifs).
unit-O: $(DEV_STAMP)
	@echo "unit tests and conformance under python -O, without the C functions"
	@WSD_PURE=1 $(PY) -O $(PYTEST_UNIT) -W 'ignore:assertions not in test modules:pytest.PytestConfigWarning' \
	  $(UNIT_TESTS) tests/conformance

# In a copy of what it takes, so that the extension that everything else runs on stays as it is.  All memory comes from
# malloc, since AddressSanitizer sees the ends of nothing else; what the interpreter itself never frees is no leak.
NATIVE := build/native
NATIVE_TESTS := $(foreach name,native compiled spread straight straight_tls tls twin mask syscalls parser* accepting ordinary,\
  tests/unit/test_$(name).py)
NATIVE_WARNINGS := -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Wcast-qual -Wcast-align \
  -Wwrite-strings -Wformat=2 -Wundef -Wvla -Werror
NATIVE_CFLAGS := -std=c11 -D_GNU_SOURCE -fPIC -g $(NATIVE_WARNINGS)
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

check-native: $(DEV_STAMP)
	@command -v $(CC) >/dev/null || { echo "$(CC) is not there: apt-get install gcc libc6-dev" >&2; exit 1; }
	@rm -rf $(NATIVE) && install -d $(NATIVE)
	@cp -r --parents wsd tests/__init__.py tests/conftest.py tests/support tests/unit tests/fuzz pyproject.toml $(NATIVE)
	@rm -f $(NATIVE)/wsd/_*.so
	@echo "compiling: warnings are errors"
	@include=$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
	suffix=$$($(PY) -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))'); \
	for source in wsd/_*.c; do \
	  $(CC) $(NATIVE_CFLAGS) -O3 -isystem "$$include" -c $$source -o $(NATIVE)/optimized.o || exit 1; \
	done && \
	$(CC) $(NATIVE_CFLAGS) -O1 $(SANITIZERS) -isystem "$$include" -shared $(NATIVE_SOURCES) -o $(NATIVE)/wsd/_native$$suffix && \
	$(CC) $(NATIVE_CFLAGS) -O1 $(SANITIZERS) -isystem "$$include" -shared wsd/_arrival.c -o $(NATIVE)/wsd/_arrival$$suffix
	@echo "tests and $(SECONDS) s of fuzzing with AddressSanitizer and UndefinedBehaviorSanitizer"
	@cd $(NATIVE) && export LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc PYTHONPATH=. && \
	$(abspath $(PY)) -m pytest --quiet -p no:cacheprovider $(NATIVE_TESTS) && \
	for name in native ordinary parser; do $(abspath $(PY)) tests/fuzz/fuzz_$$name.py $(SECONDS) || exit 1; done

integration: $(DEV_STAMP)
	@$(PY) $(PYTEST) tests/integration

# The beginning of a loop over the other interpreters that run; the first that answers for a version wins.
define EACH_OTHER_PYTHON
for python in $(OTHER_PYTHONS); do \
  version=$$($$python -c 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
  case " $$done " in *" $$version "*) continue;; esac; \
  done="$$done $$version"; env=$(VENV)-$$version;
endef

other-environments: python
	@$(EACH_OTHER_PYTHON) \
	  if [ ! -f $$env/.installed ] || [ -n "$$(find $(INSTALLED) -newer $$env/.installed)" ]; then \
	    echo "making $$env"; \
	    $$python -m venv $$env && $$env/bin/python $(PIP) --editable '.[test]' && touch $$env/.installed || exit 1; \
	  fi; \
	done

# Hypothesis makes up fewer examples here: what they look for is the same on each Python.
others: other-environments
	@$(EACH_OTHER_PYTHON) \
	  echo "unit tests on Python $$version"; \
	  $$env/bin/python $(PYTEST_UNIT) --hypothesis-profile=few $(UNIT_TESTS) || exit 1; \
	done; \
	for version in 3.12 3.13; do \
	  case " $$done " in *" $$version "*) ;; *) echo "Python $$version does not run here: not tested on it";; esac; \
	done

conformance: $(DEV_STAMP)
	@$(PY) -m tests.conformance

coverage: $(DEV_STAMP) $(NODE_STAMP)
	@$(PY) -m coverage erase
	@$(PY) -m coverage run $(PYTEST)
	@$(PY) -m coverage combine --quiet || true # a process that was killed leaves half a file
	@rm -f .coverage.*
	@$(PY) -m coverage html --quiet
	@$(PY) -m coverage report --include='wsd/wire/*' --fail-under=100
	@$(PY) -m coverage report --fail-under=95

fuzz: $(DEV_STAMP)
	@for target in tests/fuzz/fuzz_*.py; do \
	  echo "$$target for $(SECONDS) s"; PYTHONPATH=. $(PY) $$target $(SECONDS) || exit 1; \
	done

attacks: $(DEV_STAMP)
	@$(PY) -m tests.attacks

soak: $(DEV_STAMP)
	@$(PY) -m tests.soak $(SECONDS)

bench: $(BENCH_STAMP)
	@$(PY) -m bench $(BENCH)

bench-micro: $(BENCH_STAMP)
	@$(PY) -m bench.micro $(MICRO)

format: $(DEV_STAMP)
	@$(PY) -m ruff check --quiet --fix $(SOURCES) || true
	@$(PY) -m ruff format --quiet $(SOURCES)

clean:
	rm -rf $(VENV) $(VENV)-3.* $(dir $(NODE_STAMP)) build bench/build dist *.egg-info htmlcov .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache wsd/_*.so
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# -- installing -------------------------------------------------------------------------------------------------------

# What was installed, with its checksums: a file that differs from them was edited by you, and is never overwritten nor
# removed.  A new version of it is laid beside it as FILE.new.
MANIFEST := $(ROOT)/share/wsd/installed.sha256

define INSTALL_FUNCTIONS
unedited() { [ -f "$(MANIFEST)" ] && grep -qxF "$$(sha256sum < "$$1" | cut -d' ' -f1)  $${1#$(DESTDIR)}" "$(MANIFEST)"; }; \
put() { \
  install -d "$$(dirname "$$2")"; sum=$$(sha256sum < "$$1" | cut -d' ' -f1); echo "$$sum  $${2#$(DESTDIR)}" >> "$(MANIFEST).tmp"; \
  if [ ! -e "$$2" ] || cmp -s "$$1" "$$2" || unedited "$$2"; then install -m 644 "$$1" "$$2"; rm -f "$$2.new"; \
  else install -m 644 "$$1" "$$2.new"; echo "kept $$2, which was edited; the new one is $$2.new"; fi; \
}
endef

install: python
	@echo "installing wsd into $(ROOT)"
	@rm -rf build *.egg-info && install -d "$(ROOT)"
	@$(PYTHON) -m venv "$(ROOT)/env"
	@"$(ROOT)/env/bin/python" $(PIP) --no-compile .
	@rm -rf build *.egg-info
	@# The environment was made under DESTDIR and will live without it.
	@if [ -n "$(DESTDIR)" ]; then \
	  grep -rlIF "$(ROOT)/env" "$(ROOT)/env/bin" "$(ROOT)/env/pyvenv.cfg" | xargs sed -i "s|$(ROOT)/env|$(PREFIX)/env|g"; fi
	@"$(ROOT)/env/bin/python" -m compileall -q -f -s "$(DESTDIR)/" -p / "$(ROOT)/env/lib"
	@install -d "$(ROOT)/bin" "$(ROOT)/share/wsd" && ln -sfn ../env/bin/wsd "$(ROOT)/bin/wsd"
	@rm -f "$(MANIFEST).tmp"; $(INSTALL_FUNCTIONS); set -e; \
	put etc/wsd.toml "$(ROOT)/etc/wsd.toml"; \
	for file in plugins/*.py; do put "$$file" "$(ROOT)/$$file"; done; \
	staged=$$(mktemp -d); trap 'rm -rf "$$staged"' EXIT; \
	sed "s|@PREFIX@|$(PREFIX)|g" systemd/wsd.service.in > "$$staged/wsd.service"; \
	put "$$staged/wsd.service" "$(DESTDIR)$(UNITDIR)/wsd.service"; \
	put systemd/wsd.sysusers "$(DESTDIR)$(SYSUSERSDIR)/wsd.conf"; \
	mv "$(MANIFEST).tmp" "$(MANIFEST)"
	@echo "installed; next: systemd-sysusers && systemctl daemon-reload && systemctl enable --now wsd"

uninstall:
	@echo "removing wsd from $(ROOT)"
	@$(INSTALL_FUNCTIONS); \
	[ -f "$(MANIFEST)" ] || { echo "$(MANIFEST) is not there: nothing of wsd is installed here" >&2; exit 1; }; \
	while read -r sum file; do \
	  file="$(DESTDIR)$$file"; rm -f "$$file.new"; [ -e "$$file" ] || continue; \
	  if unedited "$$file"; then rm "$$file"; else echo "kept $$file, which was edited"; fi; \
	done < "$(MANIFEST)"
	@rm -rf "$(ROOT)/env" "$(ROOT)/share/wsd" "$(ROOT)/plugins/__pycache__"; rm -f "$(ROOT)/bin/wsd"
	@for folder in etc plugins bin share .; do rmdir "$(ROOT)/$$folder" 2>/dev/null || true; done
