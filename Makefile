# The two commands: `make run` and `make test`. Each installs what it needs, and says so.
# make help lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cat requirements/run.txt | sha256sum | cut -c1-16)
READY_DEV := $(VENV)/.ready-dev-$(shell cat requirements/dev.txt | sha256sum | cut -c1-16)
READY_DOCS := $(VENV)/.ready-docs-$(shell cat requirements/docs.txt | sha256sum | cut -c1-16)
# Real peers that the tests talk to. Nothing here listens outside the loopback interface.
PACKAGES := debootstrap e2fsprogs pebble certbot lego nginx-light haproxy wrk nghttp2-client curl wget git iproute2 slowhttptest testssl.sh knot bind9-dnsutils podman runc busybox-static iptables man-db prometheus libnss3-tools goaccess fail2ban logrotate chromium nodejs apache2 php-fpm php-sqlite3 adminer wordpress etcd-server etcd-client gcc libc6-dev python3-dev

# What this finds in the environment costs each process of a test run ten seconds: it compiles all tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: run
run: $(READY) compiled ## a demo site over HTTPS, with the built-in CA; no root, no internet
	@config/demo/run $(BIN)/python

.PHONY: check
check: $(READY_DEV) $(READY_DOCS) ## format, lint, types, import contracts, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	@echo "$(BIN)/mypy, and the fast tests"; \
	$(BIN)/mypy & types=$$!; \
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not program and not pebble"; status=$$?; \
	wait $$types && exit $$status

# Attackers and whoever must not notice them share the machine with nobody else; nor do workers that
# are to share the load.
ALONE := tests/e2e/test_attacks.py tests/e2e/test_workers.py
# The real program waits more than it works, so three files of tests are at it at a time. The tests of
# a file stay together, for the servers that they share.
THREE_FILES := $(BIN)/python -m pytest -q -m "program or pebble" -n 3 --dist loadfile --no-loadscope-reorder

# What speaks HTTP and has not both modes in its parameters, as test_behaviour and tests/conformance do.
H11_TOO := $(addprefix tests/e2e/test_,backends.py bodies.py bad_backends.py limits.py trust.py)

.PHONY: test
test: installed compiled accelerated check ## everything: the gate, then the real program with real peers
	@echo "the real program with real peers"; \
	$(THREE_FILES) $(addprefix --ignore=,$(ALONE)); status=$$?; \
	echo "once more with h11 alone: what speaks HTTP; beside it, by the newest Python at hand, what depends on that"; \
	newest=; mkdir -p .run; \
	if [ $$(id -u) = 0 ]; then \
	  PYTHONPATH=.:tests $(BIN)/python -m tests.matrix.run --quick --only "the newest here" >.run/newest.log 2>&1 & \
	  newest=$$!; fi; \
	TREEHOUSE_PURE_PYTHON=1 TREEHOUSE_TEST_OPTIONS=--no-fast-lane $(THREE_FILES) $(H11_TOO) || status=1; \
	[ -z "$$newest" ] || { wait $$newest || status=1; cat .run/newest.log; }; \
	echo "what must have the machine for itself"; \
	$(BIN)/python -m pytest -q -m program $(ALONE) || status=1; \
	exit $$status

.PHONY: test-matrix
test-matrix: $(READY_DEV) packages ## the suite on Debian 13, its systemd, fast tests on each Python; QUICK=1
	PYTHONPATH=.:tests $(BIN)/python -m tests.matrix.run $(if $(QUICK),--quick) $(if $(ONLY),--only "$(ONLY)")

.PHONY: docs
docs: $(READY_DOCS) ## the documentation as a site, in site/: searchable, also without a network or a server
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

.PHONY: bench
bench: $(READY_DEV) compiled packages accelerated ## side by side with nginx, HAProxy, Caddy; QUICK=1 ends in three minutes
	$(BIN)/python -m benchmarks.run $(if $(QUICK),--quick)

.PHONY: scale
scale: $(READY_DEV) compiled packages accelerated ## 1 to 10,000 sites beside nginx and Caddy; QUICK=1 ends in three minutes
	$(BIN)/python -m benchmarks.scale $(if $(QUICK),--quick)

.PHONY: bench-pythons
bench-pythons: $(READY_DEV) packages ## each Python and OpenSSL at hand: CPU, memory, start; QUICK=1 takes two rounds
	PYTHONPATH=.:tests $(BIN)/python -m benchmarks.pythons $(if $(QUICK),--quick) $(if $(ONLY),--only "$(ONLY)")

.PHONY: floods
floods: $(READY_DEV) ## how long ordinary requests take while others flood; half a minute
	$(BIN)/python -m benchmarks.floods

.PHONY: fuzz
fuzz: $(READY_DEV) ## coverage-guided fuzzing, then random bytes and frames at the real program; SECONDS_EACH=300
	@mkdir -p .run/fuzz
	@for target in tests/fuzz/fuzz_*.py; do \
	  echo "$$target"; mkdir -p .run/fuzz/$$(basename $$target .py); \
	  PYTHONPATH=.:tests $(BIN)/python $$target -max_total_time=$(or $(SECONDS_EACH),300) \
	    .run/fuzz/$$(basename $$target .py) || exit 1; \
	done
	FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),5000) $(BIN)/python -m pytest -q -m program --timeout=3600 tests/fuzz/test_real_program.py
	FUZZ_FRAMES=$(or $(FUZZ_FRAMES),1000000) $(BIN)/python -m pytest -q -s -m program tests/fuzz/test_frames.py

.PHONY: soak
soak: $(READY_DEV) packages ## ten minutes of everything at once; SOAK_SECONDS=600
	SOAK_SECONDS=$(or $(SOAK_SECONDS),600) $(BIN)/python -m pytest -q -s tests/e2e/test_soak.py

.PHONY: drains
drains: $(READY_DEV) packages ## fifty reloads and ten upgrades under HTTP/2, gRPC and a browser; four minutes
	DRAIN_RELOADS=$(or $(RELOADS),50) DRAIN_UPGRADES=$(or $(UPGRADES),10) \
	  $(BIN)/python -m pytest -q -s tests/e2e/test_http2_drains.py

.PHONY: live
live: $(READY_DEV) packages ## five minutes of certificates that live for 90 seconds
	LIVE_SECONDS=300 LIVE_VALIDITY=90 $(BIN)/python -m pytest -q -s tests/e2e/test_live_renewal.py

.PHONY: cluster
cluster: $(READY_DEV) packages ## each fault that machines and members of etcd have, and what etcd is asked for; twenty minutes
	CLUSTER_SECONDS=$(or $(CLUSTER_SECONDS),300) $(BIN)/python -m pytest -q -s \
	  tests/e2e/test_cluster_faults.py tests/e2e/test_cluster_cut.py tests/e2e/test_cluster_live.py tests/e2e/test_cluster_starts.py \
	  tests/acme_client/cluster/test_engine_load.py

.PHONY: years
years: $(READY_DEV) ## a thousand certificates over three years, against a simulated CA and clock
	YEARS_EXAMPLES=3000 $(BIN)/python -m pytest -q -p no:cacheprovider --timeout 3600 \
	  tests/acme_client/test_years.py -k no_schedule
	@printf '%s\n' {6,45,90}-{ARI,alone} | YEARS_CERTIFICATES=$(or $(CERTIFICATES),1000) YEARS=3 \
	  xargs -P $$(nproc) -I LIFE $(BIN)/python -m pytest -q -s -p no:cacheprovider \
	  "tests/acme_client/test_years.py::test_years_without_a_lapse[LIFE]"

.PHONY: cluster-years
cluster-years: $(READY_DEV) ## the same on one, three and ten machines together, in peace and in trouble; hours
	@printf '%s\n' {1,3,10}-{peace,trouble} | YEARS_CERTIFICATES=$(or $(CERTIFICATES),1000) YEARS=$(or $(YEARS),3) \
	  xargs -P $$(nproc) -I LIFE $(BIN)/python -m pytest -q -s -p no:cacheprovider \
	  "tests/acme_client/test_cluster_years.py::test_years_of_several_machines[LIFE]"

.PHONY: cluster-crowd
cluster-crowd: $(READY_DEV) ## a thousand machines with ten thousand certificates, most of which observe; MACHINES=, CERTIFICATES=, DAYS=
	CROWD_MACHINES=$(or $(MACHINES),1000) CROWD_CERTIFICATES=$(or $(CERTIFICATES),10000) CROWD_DAYS=$(or $(DAYS),60) \
	  $(BIN)/python -m pytest -q -s -p no:cacheprovider tests/acme_client/test_cluster_years.py -k crowd

# Debian packages that making and trying packages needs; nothing else does.
PACKAGERS := mmdebstrap debian-archive-keyring dpkg-dev
DIST ?= dist
BUILD := PYTHON=$(CURDIR)/$(BIN)/python packaging/

.PHONY: wheel
wheel: $(READY) ## dist/*.whl, with the version of the tag
	@$(BUILD)wheel $(DIST)

.PHONY: deb
deb: wheel packagers ## dist/*.deb for Debian 12 and 13, each built in its own Debian; root
	@$(BUILD)deb bookworm $(DIST)
	@$(BUILD)deb trixie $(DIST)

.PHONY: image
image: deb ## dist/*.oci.tar, a container image in the layout of OCI, made without an engine; root
	@$(BUILD)image/build $(DIST)

.PHONY: release
release: $(READY) ## wheel, packages, image, bills of materials, sums: of the tag at HEAD, built twice; root
	@$(BIN)/python packaging/release.py --check
	@$(MAKE) --no-print-directory packagers
	@$(BIN)/python packaging/release.py $(DIST)

# Two versions of this tree: from one to the other the trials upgrade.
TRY := .run/packaging/try
.PHONY: test-packages
test-packages: $(READY_DEV) packagers ## packages on Debian 12 and 13: install, upgrade under load, purge; root, 15 minutes
	@rm -rf $(TRY)
	@PACKAGE_VERSION=1.0.0 $(MAKE) --no-print-directory deb DIST=$(TRY)/old
	@PACKAGE_VERSION=1.0.1 $(MAKE) --no-print-directory deb DIST=$(TRY)/new
	@packaging/base bookworm booted; packaging/base trixie booted
	PACKAGES_TRY=$(CURDIR)/$(TRY) PYTHONPATH=.:tests $(BIN)/python -m pytest -q -s --timeout=3600 tests/trials/test_debian_packages.py

.PHONY: test-image
test-image: $(READY_DEV) packagers ## the image read-only and without privileges, in runc and podman; root
	@rm -rf $(TRY)/image
	@PACKAGE_VERSION=1.0.1 $(MAKE) --no-print-directory image DIST=$(TRY)/image
	@$(MAKE) --no-print-directory packages PACKAGES="runc podman umoci busybox-static"
	IMAGE_TRY=$(CURDIR)/$(TRY)/image $(BIN)/python -m pytest -q -s tests/trials/test_image.py

.PHONY: packagers
packagers:
	@$(MAKE) --no-print-directory packages PACKAGES="$(PACKAGERS)"

.PHONY: lock
lock: $(READY_DEV) ## newest versions of all dependencies into requirements/*.txt
	@for name in run dev docs packages; do \
	  $(BIN)/pip-compile -q --upgrade --strip-extras --allow-unsafe --generate-hashes --no-header \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o requirements/$$name.txt requirements/$$name.in; \
	done

.PHONY: environment
environment: $(READY_DEV) $(READY_DOCS)

# What pip and what apt-get installs: the one computes for a minute, the other waits for a minute.
.PHONY: installed
installed: $(VENV)/bin/pip
	@$(MAKE) --no-print-directory packages & packages=$$!; \
	$(MAKE) --no-print-directory --silent environment; status=$$?; \
	wait $$packages && exit $$status

# As pip does for what it installs; with PYTHONDONTWRITEBYTECODE each start would compile all sources.
.PHONY: compiled
compiled: $(VENV)/bin/pip
	@$(BIN)/python -m compileall -q proxy acme_client

# C forms of a few functions, for this Python; the program runs without them as well.
.PHONY: accelerated
accelerated: $(READY) ## the accelerated lane: a tenth to a fifth less CPU per request; takes a C compiler
	@$(BIN)/python -m proxy.accelerated.build >/dev/null

.PHONY: packages
packages:
	@missing=""; \
	for package in $(PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q "install ok installed" \
	    || missing="$$missing $$package"; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	case "$$missing" in *nginx-light*) command -v nginx >/dev/null && missing=$${missing/ nginx-light/};; esac; \
	[ -z "$$missing" ] && exit 0; \
	if [ $$(id -u) = 0 ]; then as_root=; elif command -v sudo >/dev/null; then as_root=sudo; else \
	  echo "these Debian packages are missing:$$missing"; \
	  echo "install them as root: apt-get install$$missing"; exit 1; fi; \
	echo "installing Debian packages:$$missing"; \
	$$as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
	  $$as_root apt-get install -y -qq --no-install-recommends $$missing >/dev/null

$(VENV)/bin/pip:
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  if [ $$(id -u) = 0 ]; then echo "installing the Debian package python3-venv"; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null; \
	  else echo "this Python has no venv: sudo apt-get install python3-venv"; exit 1; fi; }
	@$(PYTHON) -m venv $(VENV)

$(READY): $(VENV)/bin/pip requirements/run.txt
	@echo "installing the program's Python packages into $(VENV)"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/run.txt
	@touch $@

$(READY_DOCS): $(VENV)/bin/pip requirements/docs.txt
	@echo "installing the Python packages for the documentation into $(VENV)"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

$(READY_DEV): $(VENV)/bin/pip requirements/dev.txt
	@echo "installing the Python packages for development into $(VENV)"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@ $(READY)
