# MyTunnel. `make help` lists the targets; every variable below may be given on the command line.

# The version of the programs, named only here.
VERSION := 0.1.0

# Where `make install` puts things, below DESTDIR.
PREFIX  ?= /usr/local
DESTDIR ?=

# CC          gcc or clang; another compiler than the default gets a build folder of its own
# CFLAGS      optimisation and debugging, added to what the project needs
# LDFLAGS     added when linking
# SANITIZE    address,undefined or thread: builds into build/<variant>/
# WERROR      1 turns warnings into errors
# PROBES      0 leaves the static tracepoints out; they are in where sys/sdt.h is installed
# V           1 prints the commands
# BUILD       the build folder, default build or build/<variant>
# HARDENING   compiler and linker hardening; empty switches it off
# FUZZ_SECONDS   how long `make fuzz` runs each target
# KEYS_GIB       how much `make test-keys` sends each way
# CRASH_ROUNDS   how often `make test-crash` kills the daemon
# MYTUNNEL_TESTS parts of names of the integration tests (or tests in the VM) to run; empty: all
# MYTUNNEL_DEBS, MYTUNNEL_RPMS  folders with packages to test, instead of building them
# MYTUNNEL_JOBS  how many integration tests run at once, default twice the processors
# PEERS          1 lets `make bench` measure ssh, shadowsocks, trojan, v2ray and ngtcp2's examples too
# BENCH_ONLY     parts of `make bench` to run: bulk streams tunnels trips udp handshakes workers interactive; empty: all
# BENCH_CONTESTANTS  whom it compares, by name; empty: all
# BENCH_ROUNDS, BENCH_SECONDS  rounds, and seconds of each measurement
# BENCH_PIN      CPUs of each side: 'server=0 client=1 load=0-1'; empty: all run everywhere
SANITIZE     ?=
WERROR       ?=
PROBES       ?= 1
V            ?= 0
FUZZ_SECONDS ?= 20
CRASH_ROUNDS ?= 1000
KEYS_GIB     ?= 20
MYTUNNEL_TESTS ?=
MYTUNNEL_JOBS  ?=
MYTUNNEL_DEBS  ?=
MYTUNNEL_RPMS  ?=
PEERS          ?=
BENCH_ONLY     ?=
BENCH_CONTESTANTS ?=
BENCH_ROUNDS   ?= 5
BENCH_SECONDS  ?= 0.7
BENCH_PIN      ?=
CFLAGS       ?= -O2 -g
LDFLAGS      ?=
PKG_CONFIG   ?= pkg-config
PYTHON       ?= python3
CLANG        ?= clang

comma := ,
MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
COMPILER := $(notdir $(firstword $(CC)))
VARIANT := $(subst $(comma),-,$(SANITIZE))$(if $(SANITIZE),$(if $(findstring clang,$(COMPILER)),-clang),$(if $(findstring clang,$(COMPILER)),clang))
BUILD ?= build$(if $(VARIANT),/$(VARIANT))

LIBRARIES := libuv sqlite3 libcares jansson gnutls hogweed nettle gmp libngtcp2 \
	libngtcp2_crypto_gnutls libmicrohttpd libsystemd
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	$(if $(filter 1,$(WERROR)),-Werror)
HARDENING ?= -fstack-protector-strong -fstack-clash-protection \
	$(if $(filter x86_64-% i686-%,$(MACHINE)),-fcf-protection) \
	$(if $(SANITIZE),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HARDENING_LD ?= -Wl,-z,relro,-z,now

ifneq ($(SANITIZE),)
SANITIZE_FLAGS := -fsanitize=$(SANITIZE) -fno-omit-frame-pointer \
	$(if $(findstring undefined,$(SANITIZE)),-fno-sanitize-recover=undefined)
endif

# Only what was asked of pkg-config once per run of make; goals that compile nothing do not ask.
NO_BUILD_GOALS := help clean bench-compare bench-table deps dist format demo check test test-full tsan uninstall deb rpm test-fresh test-packages test-rpm test-service test-vm
ifneq ($(if $(MAKECMDGOALS),$(filter-out $(NO_BUILD_GOALS),$(MAKECMDGOALS)),all),)
LIB_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(LIBRARIES) 2>/dev/null)
LIB_LIBS := $(shell $(PKG_CONFIG) --libs $(LIBRARIES) 2>/dev/null)
TEST_LIBS := $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null)
endif

ALL_CFLAGS := -std=gnu17 -D_GNU_SOURCE -DMT_VERSION='"$(VERSION)"' -I. $(LIB_CFLAGS) $(WARNINGS) \
	$(if $(filter 0,$(PROBES)),-DMT_NO_PROBES) -fPIE $(HARDENING) $(CFLAGS) $(SANITIZE_FLAGS)
ALL_LDFLAGS := -pie $(HARDENING_LD) -Wl,--as-needed $(SANITIZE_FLAGS) $(LDFLAGS)
ALL_LIBS := $(LIB_LIBS) -lm -lpthread
CTL_LIBS := -lqrencode

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)')

# ---- sources ----
WIRE_SRC   := $(wildcard proto/wire/*.c)
QUIC_SRC   := $(wildcard proto/quic/*.c)
IO_SRC     := $(wildcard proto/io/*.c)
STORE_SRC  := $(wildcard store/*.c)
WEB_SRC    := $(wildcard web/*.c)
DAEMON_SRC := $(wildcard daemon/*.c)
CTL_SRC    := $(wildcard ctl/*.c)
CLIENT_SRC := $(wildcard client/*.c)
MANUAL_SRC := $(wildcard ctl/manual/*.c)
ALL_SRC    := $(WIRE_SRC) $(QUIC_SRC) $(IO_SRC) $(STORE_SRC) $(WEB_SRC) $(DAEMON_SRC) $(CTL_SRC) \
	$(CLIENT_SRC) $(MANUAL_SRC)
TEST_SRC   := $(wildcard tests/unit/*.c tests/sim/*.c tests/fuzz/*.c tests/bench/*.c tests/bench/lib/*.c \
	tests/preload/*.c)
HEADERS    := $(wildcard proto/*/*.h store/*.h web/*.h daemon/*.h ctl/*.h client/*.h tests/*/*.h tests/bench/lib/*.h)

objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
WIRE_LIB  := $(BUILD)/libwire.a
PROTO_LIB := $(BUILD)/libproto.a
STORE_LIB := $(BUILD)/libstore.a
WEB_LIB   := $(BUILD)/libweb.a

# The dashboard: PATH=FILE for each file that the daemon serves from its binary.
UI_VENDOR := $(wildcard web/ui/vendor/uPlot/*.js web/ui/vendor/uPlot/*.css)
UI_OWN    := $(wildcard web/ui/*.css web/ui/*.js web/ui/*.svg)
UI_FILES  := /=web/ui/index.html $(foreach f,$(UI_OWN) $(UI_VENDOR),/ui/$(notdir $(f))=$(f))

PROGRAMS := $(BUILD)/mytunneld $(BUILD)/mytunnelctl $(BUILD)/mytunnel

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all bench bench-compare bench-hold bench-rules bench-table browser check clean deb demo deps dist \
	format fuzz help install integration lint rpm sim test test-crash test-fresh test-full \
	test-packages test-programs test-rpm test-service test-vm tsan uninstall unit unit-threaded FORCE

## all        build/mytunneld, build/mytunnelctl and build/mytunnel
all: $(PROGRAMS) $(BUILD)/mytunneld.8

$(BUILD)/mytunneld: $(call objects,$(DAEMON_SRC)) $(WEB_LIB) $(STORE_LIB) $(PROTO_LIB) $(WIRE_LIB)
$(BUILD)/mytunnelctl: $(call objects,$(CTL_SRC)) $(WIRE_LIB)
$(BUILD)/mytunnelctl: private PROGRAM_LIBS := $(CTL_LIBS)
$(BUILD)/manual: $(call objects,ctl/manual/manual.c) $(WIRE_LIB)
$(BUILD)/mytunnel: $(call objects,$(CLIENT_SRC)) $(PROTO_LIB) $(WIRE_LIB)

# The settings in the manual page come from their table.
$(BUILD)/mytunneld.8: daemon/mytunneld.8 $(BUILD)/manual
	$(call say,MAN,$@)
	$(Q)$(BUILD)/manual <$< >$@

$(PROGRAMS) $(BUILD)/manual: $(BUILD)/flags
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) \
		$(PROGRAM_LIBS) $(ALL_LIBS)

$(WIRE_LIB): $(call objects,$(WIRE_SRC))
$(PROTO_LIB): $(call objects,$(QUIC_SRC) $(IO_SRC))
$(STORE_LIB): $(call objects,$(STORE_SRC))
$(WEB_LIB): $(call objects,$(WEB_SRC)) $(BUILD)/obj/web/ui.o

$(BUILD)/ui.c: web/ui/index.html $(UI_OWN) $(UI_VENDOR) scripts/embed $(BUILD)/ui.list
	$(call say,EMBED,$@)
	$(Q)scripts/embed $(UI_FILES) >$@

# Written when a file of the dashboard comes or goes.
$(BUILD)/ui.list: FORCE
	@mkdir -p $(@D); echo '$(UI_FILES)' | cmp -s - $@ || echo '$(UI_FILES)' > $@

$(BUILD)/obj/web/ui.o: $(BUILD)/ui.c web/assets.h $(BUILD)/flags
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -c -o $@ $<

%.a:
	$(call say,AR,$@)
	$(Q)mkdir -p $(@D) && rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Rebuild when the compiler or its flags change.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D); printf '%s\n' "$$MT_FLAGS" | cmp -s - $@ || printf '%s\n' "$$MT_FLAGS" > $@
export MT_FLAGS = $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(ALL_LIBS)
FORCE:

# ---- tests ----
# A test's first comment names what it is linked with: /* links: proto/wire/addr.c -Wl,--wrap=read */
links = $(shell awk '{ print } /\*\// { exit }' $(1) | tr '\n\t' '  ' | \
	sed -n 's,^/\* *links:\(.*\)\*/.*,\1,p' | sed 's, \* , ,g')

UNIT_SRC := $(wildcard tests/unit/test_*.c)
SIM_SRC  := $(wildcard tests/sim/test_*.c)
UNIT_TESTS := $(patsubst tests/%.c,$(BUILD)/%,$(UNIT_SRC))
SIM_TESTS  := $(patsubst tests/%.c,$(BUILD)/%,$(SIM_SRC))

define test_rule
$(patsubst tests/%.c,$(BUILD)/%,$(1)): private LINK_FLAGS := $(filter -%,$(2))
$(patsubst tests/%.c,$(BUILD)/%,$(1)): $(call objects,$(1) $(filter %.c,$(2))) $(BUILD)/flags
	$$(call say,LINK,$$@)
	$$(Q)mkdir -p $$(@D) && $$(CC) $$(ALL_LDFLAGS) $$(LINK_FLAGS) -o $$@ $$(filter %.o,$$^) \
		$$(TEST_LIBS) $$(ALL_LIBS)
endef
$(foreach t,$(UNIT_SRC) $(SIM_SRC),$(eval $(call test_rule,$(t),$(call links,$(t)))))

## unit       build and run the unit tests (one alone: make build/unit/test_addr)
unit: $(UNIT_TESTS)
	$(Q)scripts/run-tests unit $(UNIT_TESTS)

## unit-threaded  the unit tests that start threads
THREADED_TESTS = $(patsubst tests/%.c,$(BUILD)/%,$(shell grep -l pthread_create $(UNIT_SRC)))
unit-threaded: $(THREADED_TESTS)
	$(Q)scripts/run-tests unit $(THREADED_TESTS)

## test-programs  build the unit tests and simulations, run none
test-programs: $(UNIT_TESTS) $(SIM_TESTS)

## sim        build and run the simulations: two endpoints, a fake clock, seeded loss
sim: $(SIM_TESTS)
	$(Q)scripts/run-tests sim $(SIM_TESTS)

# ---- measuring ----
BENCH_SRC := $(filter-out $(if $(wildcard /usr/include/liburing.h),,tests/bench/uring.c), \
	$(wildcard tests/bench/*.c))
BENCHES   := $(patsubst tests/%.c,$(BUILD)/%,$(BENCH_SRC))
$(foreach t,$(BENCH_SRC),$(eval $(call test_rule,$(t),$(call links,$(t)))))
# Clients, all of them but their command line.
$(BUILD)/bench/clients: $(call objects,$(WIRE_SRC) $(QUIC_SRC) $(IO_SRC) \
	$(filter-out client/main.c client/cmd_%.c client/session.c,$(CLIENT_SRC)))
$(BUILD)/bench/uring: private LINK_FLAGS := -Wl,--no-as-needed -luring -Wl,--as-needed

# A shim for a peer that is measured.
$(BUILD)/bench/gro.so: tests/bench/lib/gro.c
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(CC) -std=gnu17 -D_GNU_SOURCE $(WARNINGS) -O2 -shared -fPIC -o $@ $<

## bench      measure beside a reference; PEERS=1: beside all peers that Debian packages, which it installs
bench: all $(BENCHES) $(BUILD)/bench/gro.so
	$(if $(filter 1,$(PEERS)),$(Q)scripts/deps build bench-peers)
	$(Q)MYTUNNEL_BUILD=$(BUILD) $(PYTHON) tests/bench/bench.py $(if $(filter 1,$(PEERS)),--peers) \
		--only '$(BENCH_ONLY)' --contestants '$(BENCH_CONTESTANTS)' --rounds $(BENCH_ROUNDS) \
		--seconds $(BENCH_SECONDS) --pin '$(BENCH_PIN)'

## bench-compare  two results side by side: A=FILE B=FILE, or the last two
bench-compare:
	$(Q)MYTUNNEL_BUILD=$(BUILD) $(PYTHON) tests/bench/compare.py '$(A)' '$(B)'

## bench-table  the last result, or that in A=FILE, into docs/performance.md, with its picture
bench-table:
	$(Q)MYTUNNEL_BUILD=$(BUILD) $(PYTHON) tests/bench/document.py '$(A)'

## bench-hold  memory and cost of many connections: HOLD=1,100,1000,10000 of them, a storm of HOLD_STORM=2000
HOLD       ?= 1,100,1000,10000
HOLD_STORM ?= 2000
HOLDERS := $(patsubst %,$(BUILD)/bench/%,holder probe echo)
bench-hold: all $(HOLDERS)
	$(Q)MYTUNNEL_BUILD=$(BUILD) $(PYTHON) tests/bench/hold.py --counts $(HOLD) --storm $(HOLD_STORM) \
		--out $(BUILD)/bench

## bench-rules  what a decision of the access rules costs (the other benchmarks: docs/performance.md)
bench-rules: $(BUILD)/bench/rules
	$(Q)$<

# ---- fuzzing: clang's libFuzzer with sanitizers, in objects of its own ----
FUZZ_BUILD := build/fuzz
FUZZ_SRC   := $(wildcard tests/fuzz/fuzz_*.c)
FUZZERS    := $(patsubst tests/fuzz/%.c,$(FUZZ_BUILD)/%,$(FUZZ_SRC))
FUZZ_FLAGS := -std=gnu17 -D_GNU_SOURCE -DMT_VERSION='"$(VERSION)"' -I. $(LIB_CFLAGS) -O1 -g \
	-fno-omit-frame-pointer -fno-sanitize-recover=undefined
fuzz_objects = $(patsubst %.c,$(FUZZ_BUILD)/obj/%.o,$(1))

$(FUZZ_BUILD)/obj/%.o: %.c
	$(call say,FUZZCC,$<)
	$(Q)mkdir -p $(@D) && $(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined \
		-MMD -MP -c -o $@ $<

define fuzz_rule
$(patsubst tests/fuzz/%.c,$(FUZZ_BUILD)/%,$(1)): $(call fuzz_objects,$(1) $(filter %.c,$(2)))
	$$(call say,LINK,$$@)
	$$(Q)$$(CLANG) -fsanitize=fuzzer,address,undefined -Wl,--as-needed -o $$@ $$^ $$(ALL_LIBS)
endef
$(foreach t,$(FUZZ_SRC),$(eval $(call fuzz_rule,$(t),$(call links,$(t)))))

## fuzz       run every fuzz target for FUZZ_SECONDS
fuzz: $(FUZZERS)
	$(Q)FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/run-fuzz $(FUZZERS)

# ---- real programs ----
# A QUIC client that is not ngtcp2, in Go.
INTEROP := build/interop
GOCODE  ?= /usr/share/gocode
INTEROP_TAGS := $(if $(wildcard $(GOCODE)/src/github.com/quic-go/quic-go/*.go),,quicgo_old)

$(INTEROP): $(wildcard tests/integration/interop/*.go)
	$(call say,GO,$@)
	$(Q)mkdir -p $(@D) && cd tests/integration/interop && GO111MODULE=off GOPATH=$(GOCODE) \
		GOCACHE=$(CURDIR)/build/gocache GOFLAGS= CGO_ENABLED=0 \
		go build -tags '$(INTEROP_TAGS)' -o $(CURDIR)/$(INTEROP) .

# Counts what a program asks of the heap: test_malloc.py loads it into the programs.
COUNT_MALLOC := $(BUILD)/libcount_malloc.so

$(COUNT_MALLOC): tests/preload/count_malloc.c $(BUILD)/flags
	$(call say,LINK,$@)
	$(Q)$(CC) $(filter-out -fPIE $(SANITIZE_FLAGS),$(ALL_CFLAGS)) -fPIC -shared -o $@ $<

## integration  run the real programs: traffic, faults, bad input (MYTUNNEL_TESTS=name: some of them)
integration: all $(INTEROP) $(COUNT_MALLOC) $(BUILD)/bench/load $(BUILD)/bench/handshakes \
		$(BUILD)/bench/interactive $(BUILD)/bench/clients \
		$(HOLDERS)
	$(Q)MYTUNNEL_BUILD=$(BUILD) MYTUNNEL_SANITIZE=$(SANITIZE) MYTUNNEL_JOBS=$(MYTUNNEL_JOBS) \
		$(PYTHON) tests/integration/run.py $(MYTUNNEL_TESTS)

## test-vm    tests/vm in a virtual machine with Debian's kernel: kernel TLS, loss (MYTUNNEL_TESTS=name)
test-vm:
	$(Q)scripts/deps build demo test vm
	$(Q)$(MAKE) --no-print-directory all
	$(Q)MYTUNNEL_BUILD=$(BUILD) MYTUNNEL_SANITIZE=$(SANITIZE) tests/vm/run $(MYTUNNEL_TESTS)

## browser    the dashboard in headless Chromium, through a tunnel (MYTUNNEL_TESTS=name: some)
browser: all
	$(Q)MYTUNNEL_BUILD=$(BUILD) MYTUNNEL_SANITIZE=$(SANITIZE) \
		$(PYTHON) tests/integration/run.py --folder tests/browser $(MYTUNNEL_TESTS)

## check      unit, sim, integration and browser
check:
	$(Q)scripts/run-suite '$(MAKE)' unit sim integration browser

## test       deps, then check
test: deps
	$(Q)$(MAKE) --no-print-directory check

## test-full  check with the large transfers (2 GiB each way)
test-full:
	$(Q)MYTUNNEL_FULL=1 $(MAKE) --no-print-directory check

## test-crash  kill -9 at 1,000 random instants (CRASH_ROUNDS), in the midst of changes and traffic
test-crash: all
	$(Q)MYTUNNEL_BUILD=$(BUILD) MYTUNNEL_SANITIZE=$(SANITIZE) \
		MYTUNNEL_CRASH_ROUNDS=$(CRASH_ROUNDS) MYTUNNEL_LIMIT=3600 \
		$(PYTHON) tests/integration/run.py crash.killed

## test-keys  20 GiB down and up on one connection (KEYS_GIB): past what a key may seal, some minutes
.PHONY: test-keys
test-keys: all
	$(Q)MYTUNNEL_BUILD=$(BUILD) MYTUNNEL_SANITIZE=$(SANITIZE) KEYS_GIB=$(KEYS_GIB) \
		$(PYTHON) tests/long/key_limit.py

## tsan       under ThreadSanitizer: what has threads, unit tests and the real programs
tsan:
	$(Q)scripts/run-suite '$(MAKE) SANITIZE=thread' unit-threaded integration

## demo       install what is needed, build, and send real traffic through a tunnel on this machine
demo:
	$(Q)MAKE='$(MAKE)' scripts/demo

# ---- analysers ----
LINTED := $(wildcard scripts/* .ci/run tests/integration/*.py tests/integration/interop/*.go \
	web/ui/*.js web/ui/*.css web/ui/*.html tests/browser/*.py tests/vm/run tests/vm/*.py \
	tests/service/*.py tests/packages/* tests/bench/*.py tests/long/*.py)
TIDIED := $(patsubst %.c,build/tidy/%.ok,$(ALL_SRC))

build/tidy/%.ok: %.c .clang-tidy
	$(call say,TIDY,$<)
	$(Q)mkdir -p $(@D) && clang-tidy --quiet $< -- -std=gnu17 -D_GNU_SOURCE \
		-DMT_VERSION='"$(VERSION)"' -I. $(LIB_CFLAGS) >$@.log 2>/dev/null || { cat $@.log; exit 1; }
	$(Q)touch $@

## lint       style, include layers, banned functions, format, clang-tidy
lint: $(TIDIED)
	$(Q)$(PYTHON) scripts/lint.py $(ALL_SRC) $(HEADERS) $(TEST_SRC) $(LINTED)
	$(Q)clang-format --dry-run -Werror $(ALL_SRC) $(HEADERS) $(TEST_SRC)
	@echo "lint: no findings"

## format     apply .clang-format
format:
	clang-format -i $(ALL_SRC) $(HEADERS) $(TEST_SRC)

# ---- installing ----
INSTALL_BIN := $(DESTDIR)$(PREFIX)/bin
INSTALL_SBIN := $(DESTDIR)$(PREFIX)/sbin
INSTALL_MAN := $(DESTDIR)$(PREFIX)/share/man
INSTALL_COMPLETIONS := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
INSTALL_SHARE := $(DESTDIR)$(PREFIX)/share/mytunnel
INSTALL_LIB := $(DESTDIR)$(PREFIX)/lib
UNIT_DIR ?= $(PREFIX)/lib/systemd/system
INSTALL_UNITS := $(DESTDIR)$(UNIT_DIR)
# Names in sysusers.d, tmpfiles.d, sysctl.d and modules-load.d.
PRESET := systemd/system-preset/50-mytunnel.preset
SYSTEM_FILES := sysusers.d/mytunnel.conf tmpfiles.d/mytunnel.conf sysctl.d/50-mytunnel.conf \
	modules-load.d/mytunnel.conf

## install    programs, manual pages and service files below DESTDIR and PREFIX
install: all
	install -d $(INSTALL_BIN) $(INSTALL_SBIN) $(INSTALL_MAN)/man1 $(INSTALL_MAN)/man7 \
		$(INSTALL_MAN)/man8 \
		$(INSTALL_COMPLETIONS) $(INSTALL_UNITS) $(INSTALL_LIB)/systemd/user \
		$(INSTALL_SHARE) $(dir $(INSTALL_LIB)/$(PRESET)) \
		$(addprefix $(INSTALL_LIB)/,$(sort $(dir $(SYSTEM_FILES))))
	install -m 755 $(BUILD)/mytunneld $(INSTALL_SBIN)/mytunneld
	install -m 755 $(BUILD)/mytunnelctl $(INSTALL_BIN)/mytunnelctl
	install -m 755 $(BUILD)/mytunnel $(INSTALL_BIN)/mytunnel
	install -m 644 $(BUILD)/mytunneld.8 $(INSTALL_MAN)/man8/mytunneld.8
	install -m 644 ctl/mytunnelctl.8 $(INSTALL_MAN)/man8/mytunnelctl.8
	install -m 644 web/mytunnel-http.7 $(INSTALL_MAN)/man7/mytunnel-http.7
	install -m 644 client/mytunnel.1 $(INSTALL_MAN)/man1/mytunnel.1
	install -m 644 completions/mytunnelctl $(INSTALL_COMPLETIONS)/mytunnelctl
	install -m 644 web/monitoring/alerts.yml web/monitoring/grafana.json docs/tunnels.bt \
		$(INSTALL_SHARE)
	install -m 644 web/ui/vendor/uPlot/LICENSE $(INSTALL_SHARE)/uPlot.txt
	sed 's,@SBINDIR@,$(PREFIX)/sbin,' daemon/systemd/mytunnel.service.in \
		>$(INSTALL_UNITS)/mytunnel.service
	sed 's,@BINDIR@,$(PREFIX)/bin,' client/mytunnel@.service.in \
		>$(INSTALL_LIB)/systemd/user/mytunnel@.service
	chmod 644 $(INSTALL_UNITS)/mytunnel.service \
		$(INSTALL_LIB)/systemd/user/mytunnel@.service
	install -m 644 daemon/systemd/mytunnel.preset $(INSTALL_LIB)/$(PRESET)
	$(foreach f,$(SYSTEM_FILES),install -m 644 daemon/systemd/mytunnel.$(patsubst \
		%.d/,%,$(dir $(f))).conf $(INSTALL_LIB)/$(f) &&) true

## uninstall  remove what install placed
uninstall:
	rm -f $(INSTALL_SBIN)/mytunneld $(INSTALL_BIN)/mytunnelctl $(INSTALL_BIN)/mytunnel \
		$(INSTALL_MAN)/man8/mytunneld.8 $(INSTALL_MAN)/man8/mytunnelctl.8 \
		$(INSTALL_MAN)/man7/mytunnel-http.7 $(INSTALL_MAN)/man1/mytunnel.1 \
		$(INSTALL_COMPLETIONS)/mytunnelctl $(addprefix $(INSTALL_SHARE)/,alerts.yml \
		grafana.json tunnels.bt uPlot.txt) $(INSTALL_UNITS)/mytunnel.service \
		$(INSTALL_LIB)/systemd/user/mytunnel@.service $(INSTALL_LIB)/$(PRESET) \
		$(addprefix $(INSTALL_LIB)/,$(SYSTEM_FILES))

## dist       build/mytunnel-VERSION.tar.gz from the last commit
dist:
	@top=$$(git rev-parse --show-toplevel 2>/dev/null); [ "$$top" = "$$(pwd -P)" ] || { echo \
		"make dist: this folder is no git checkout, and a release is what git has at HEAD; run it" \
		"in a clone of the repository" >&2; exit 1; }
	mkdir -p build
	git archive --prefix=mytunnel-$(VERSION)/ -o build/mytunnel-$(VERSION).tar.gz HEAD

# Version and folder of the packages; the version of a rebuild may be VERSION+1 or the like.
DEB_VERSION ?= $(VERSION)
DEB_OUT     ?= build/deb

## deb        Debian packages in build/deb (DEB_VERSION=, DEB_OUT=)
deb:
	$(Q)scripts/deb $(DEB_VERSION) $(DEB_OUT)

## rpm        RPM packages in build/rpm
rpm:
	$(Q)scripts/rpm $(VERSION) build/rpm

## test-rpm   build and check the RPM packages: files as in the Debian ones, rpmlint, traffic
test-rpm:
	$(Q)scripts/deps build demo package rpm
	$(Q)$(MAKE) --no-print-directory rpm
	$(if $(MYTUNNEL_DEBS),,$(Q)DEB_BUILD_OPTIONS=nocheck scripts/deb $(VERSION) build/deb)
	$(Q)$(PYTHON) tests/packages/test-rpm build/rpm $(or $(MYTUNNEL_DEBS),build/deb)

## test-service  the Debian packages in a virtual machine, under systemd: the unit with its sandbox on
test-service:
	$(Q)scripts/deps build package vm
	$(if $(MYTUNNEL_DEBS),,$(Q)DEB_BUILD_OPTIONS=nocheck scripts/deb $(VERSION) build/deb)
	$(Q)MYTUNNEL_RPMS=$(MYTUNNEL_RPMS) tests/packages/service $(or $(MYTUNNEL_DEBS),build/deb) $(MYTUNNEL_TESTS)

## test-packages  build and check the packages; install, use, upgrade, purge them in fresh Debian 12 and 13
test-packages:
	$(Q)tests/packages/run $(VERSION)

## test-fresh  make demo and make test as root in fresh, bare Debian 12 and 13; half an hour
test-fresh:
	$(Q)scripts/deps build package
	$(Q)tests/packages/fresh

## deps       install what building and testing need (Debian 12 and 13, root or sudo)
deps:
	$(Q)scripts/deps

## clean      remove build/
clean:
	rm -rf build

## help       this list
help:
	@echo "MyTunnel $(VERSION). Targets:"; sed -n 's/^## \([^ ]*\) */\1\t/p' Makefile | expand -t 16 | sed 's/^/  /'
	@echo "Variables (see the top of the Makefile): CC CFLAGS LDFLAGS SANITIZE WERROR PROBES V HARDENING"
	@echo "  PREFIX DESTDIR FUZZ_SECONDS; example: make SANITIZE=address,undefined unit"

-include $(patsubst %.c,$(BUILD)/obj/%.d,$(ALL_SRC) $(TEST_SRC))
-include $(patsubst %.c,$(FUZZ_BUILD)/obj/%.d,$(ALL_SRC) $(TEST_SRC))
