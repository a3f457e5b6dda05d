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
# V           1 prints the commands
# BUILD       the build folder, default build or build/<variant>
# HARDENING   compiler and linker hardening; empty switches it off
# FUZZ_SECONDS how long `make fuzz` runs each target
SANITIZE     ?=
WERROR       ?=
V            ?= 0
FUZZ_SECONDS ?= 20
CFLAGS       ?= -O2 -g
LDFLAGS      ?=
PKG_CONFIG   ?= pkg-config
PYTHON       ?= python3
CLANG        ?= clang

comma := ,
MACHINE := $(shell $(CC) -dumpmachine)
COMPILER := $(notdir $(firstword $(CC)))
VARIANT := $(subst $(comma),-,$(SANITIZE))$(if $(SANITIZE),$(if $(findstring clang,$(COMPILER)),-clang),$(if $(findstring clang,$(COMPILER)),clang))
BUILD ?= build$(if $(VARIANT),/$(VARIANT))

LIBRARIES := libuv sqlite3 libcares jansson gnutls libngtcp2 libngtcp2_crypto_gnutls \
	libmicrohttpd libsystemd
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
NO_BUILD_GOALS := help clean deps dist format
ifneq ($(if $(MAKECMDGOALS),$(filter-out $(NO_BUILD_GOALS),$(MAKECMDGOALS)),all),)
LIB_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(LIBRARIES) 2>/dev/null)
LIB_LIBS := $(shell $(PKG_CONFIG) --libs $(LIBRARIES) 2>/dev/null)
TEST_LIBS := $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null)
endif

ALL_CFLAGS := -std=gnu17 -D_GNU_SOURCE -DMT_VERSION='"$(VERSION)"' -I. $(LIB_CFLAGS) $(WARNINGS) \
	-fPIE $(HARDENING) $(CFLAGS) $(SANITIZE_FLAGS)
ALL_LDFLAGS := -pie $(HARDENING_LD) -Wl,--as-needed $(SANITIZE_FLAGS) $(LDFLAGS)
ALL_LIBS := $(LIB_LIBS) -lm -lpthread

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
ALL_SRC    := $(WIRE_SRC) $(QUIC_SRC) $(IO_SRC) $(STORE_SRC) $(WEB_SRC) $(DAEMON_SRC) $(CTL_SRC) \
	$(CLIENT_SRC)
TEST_SRC   := $(wildcard tests/unit/*.c tests/sim/*.c tests/fuzz/*.c)
HEADERS    := $(wildcard proto/*/*.h store/*.h web/*.h daemon/*.h ctl/*.h client/*.h tests/*/*.h)

objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
WIRE_LIB  := $(BUILD)/libwire.a
PROTO_LIB := $(BUILD)/libproto.a
STORE_LIB := $(BUILD)/libstore.a
WEB_LIB   := $(BUILD)/libweb.a

PROGRAMS := $(BUILD)/mytunneld $(BUILD)/mytunnelctl $(BUILD)/mytunnel

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all unit sim deps clean help FORCE

## all        build/mytunneld, build/mytunnelctl and build/mytunnel
all: $(PROGRAMS)

$(BUILD)/mytunneld: $(call objects,$(DAEMON_SRC)) $(WEB_LIB) $(STORE_LIB) $(PROTO_LIB) $(WIRE_LIB)
$(BUILD)/mytunnelctl: $(call objects,$(CTL_SRC)) $(WIRE_LIB)
$(BUILD)/mytunnel: $(call objects,$(CLIENT_SRC)) $(PROTO_LIB) $(WIRE_LIB)

$(PROGRAMS): $(BUILD)/flags
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(ALL_LIBS)

$(WIRE_LIB): $(call objects,$(WIRE_SRC))
$(PROTO_LIB): $(call objects,$(QUIC_SRC) $(IO_SRC))
$(STORE_LIB): $(call objects,$(STORE_SRC))
$(WEB_LIB): $(call objects,$(WEB_SRC))

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

## sim        build and run the simulations: two endpoints, a fake clock, seeded loss
sim: $(SIM_TESTS)
	$(Q)scripts/run-tests sim $(SIM_TESTS)

## deps       install what building and testing need (Debian 12 and 13, root or sudo)
deps:
	$(Q)scripts/deps

## clean      remove build/
clean:
	rm -rf build

## help       this list
help:
	@echo "MyTunnel $(VERSION). Targets:"; sed -n 's/^## /  /p' Makefile
	@echo "Variables (see the top of the Makefile): CC CFLAGS LDFLAGS SANITIZE WERROR V HARDENING"
	@echo "  PREFIX DESTDIR FUZZ_SECONDS; example: make SANITIZE=address,undefined unit"

-include $(patsubst %.c,$(BUILD)/obj/%.d,$(ALL_SRC) $(TEST_SRC))
