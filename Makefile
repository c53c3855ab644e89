# Every task of this repository; `make help` lists them.

VERSION = 0.1.0
SOVERSION = 0

BUILD = build
CC = gcc
CLANG = clang
CFLAGS = -O2 -g
WARNINGS = -Wall -Wextra -Werror
LDFLAGS =

PREFIX = /usr/local
LIBDIR = $(PREFIX)/lib
DESTDIR =

# A tree to build the module in, with ./configure and src/; and its flags.
# Debian's nginx-dev has one that fits Debian's nginx.
NGX_SRC = /usr/share/nginx/src
NGX_CONF_FLAGS =
NGX_CC_OPT = -O2 -g -fno-semantic-interposition -fstack-protector-strong \
    -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 $(inline)
NGX_LD_OPT = -Wl,-z,relro -Wl,-z,now -Wl,-Bsymbolic-functions \
    $(inline)

# A span is written by some thirty calls of the library: gcc may put them into
# the module's functions, which takes a sixth off what a request costs.
inline := $(if $(shell cc --version 2> /dev/null | grep 'Free Software'), \
    -O3 -flto=auto --param=max-inline-insns-auto=300 \
    --param=inline-unit-growth=400 --param=large-function-growth=2000)
NGX_MODULES_PATH = $(shell nginx -V 2>&1 \
    | sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p')

# Of one run of `make fuzz` and target; bash has a variable of this name too,
# so only the command line counts.
SECONDS := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),60)

# One test or several: make test T=t/propagation.t
T =

C99 = $(CC) -std=c99 $(WARNINGS) -Ilib/include -I$(BUILD)/proto $(CFLAGS) \
    -MMD -MP


lib_src := $(wildcard lib/*.c)
otlp_src := $(wildcard lib/otlp/*.c)
tools_src := $(wildcard tools/*.c)
proto := $(shell find proto -name '*.proto')
proto_src := $(proto:proto/%.proto=$(BUILD)/proto/%.pb-c.c)
proto_hdr := $(proto_src:.c=.h)

lib_obj := $(lib_src:%.c=$(BUILD)/obj/%.o)
lib_pic := $(lib_src:%.c=$(BUILD)/pic/%.o)
proto_obj := $(proto:proto/%.proto=$(BUILD)/obj/proto/%.pb-c.o)
otlp_obj := $(otlp_src:%.c=$(BUILD)/obj/%.o) $(proto_obj)
tools_obj := $(tools_src:%.c=$(BUILD)/obj/%.o)

liba := $(BUILD)/libtraceparent.a
libso := $(BUILD)/libtraceparent.so
otlpa := $(BUILD)/libtraceparent-otlp.a
command := $(BUILD)/traceparent
module := $(BUILD)/ngx_http_trace_module.so
test_modules := $(BUILD)/ngx_http_trace_example_module.so \
    $(BUILD)/ngx_http_trace_test_module.so

wiretap := $(BUILD)/wiretap.so
unit := $(patsubst t/unit/%.c,$(BUILD)/unit/%,$(wildcard t/unit/*.c))
bench := $(patsubst t/bench/%.c,$(BUILD)/bench/%,$(wildcard t/bench/*.c))
fuzz := $(patsubst t/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard t/fuzz/*.c))

module_src := config $(proto) $(wildcard ngx_module/*.[ch]) $(lib_src) \
    $(otlp_src) $(shell find lib -name '*.h')


.PHONY: all build libs tools module unit bench-programs fuzz-programs deps \
    deps-build demo test bench fuzz check asan interop install uninstall \
    clean help FORCE
.DELETE_ON_ERROR:

all: build

help:
	@echo 'make build      everything, into build/ (the default)'
	@echo 'make deps       install the Debian packages that are missing'
	@echo 'make demo       see it work: two nginx, two traces of each request'
	@echo 'make test       unit tests, a fuzzing round, nginx tests;'
	@echo '                T=t/FILE.t for one of them'
	@echo 'make check      layers, style, documentation'
	@echo 'make asan       the tests again, in an nginx with sanitizers'
	@echo 'make fuzz       fuzz each parser for SECONDS=60'
	@echo 'make bench      instructions per call and per request, beside budgets'
	@echo 'make interop    against other implementations of the standards'
	@echo 'make install    libraries, headers, command, module;'
	@echo '                PREFIX=/usr/local DESTDIR='
	@echo 'make uninstall  remove what install has put there'
	@echo 'make clean      remove build/'
	@echo
	@echo 'libs, tools and module build a part. CC, CFLAGS, LDFLAGS, WARNINGS,'
	@echo 'BUILD do what they say. For another nginx than this machine'"'"'s:'
	@echo 'NGX_SRC=/path/of/nginx-1.x NGX_CONF_FLAGS="--with-compat ...".'

build: libs tools module
libs: $(liba) $(libso) $(otlpa)
tools: $(command)
module: $(module)
unit: $(unit) $(wiretap) $(test_modules)
bench-programs: $(bench)
fuzz-programs: $(fuzz)


# the libraries and the command

$(BUILD)/proto/%.pb-c.c $(BUILD)/proto/%.pb-c.h: proto/%.proto
	@mkdir -p $(BUILD)/proto
	protoc-c --proto_path=proto --c_out=$(BUILD)/proto $<

$(BUILD)/obj/proto/%.o: $(BUILD)/proto/%.c | $(proto_hdr)
	@mkdir -p $(@D)
	$(C99) -c -o $@ $<

$(BUILD)/obj/%.o: %.c | $(proto_hdr)
	@mkdir -p $(@D)
	$(C99) -c -o $@ $<

$(BUILD)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(C99) -fPIC -fno-semantic-interposition -c -o $@ $<

$(liba): $(lib_obj)
	rm -f $@
	$(AR) rcs $@ $^

$(otlpa): $(otlp_obj)
	rm -f $@
	$(AR) rcs $@ $^

$(libso): $(lib_pic) lib/libtraceparent.map
	$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-z,defs \
	    -Wl,-soname,libtraceparent.so.$(SOVERSION) \
	    -Wl,--version-script=lib/libtraceparent.map \
	    -o $@.$(VERSION) $(lib_pic)
	ln -sf libtraceparent.so.$(VERSION) $@.$(SOVERSION)
	ln -sf libtraceparent.so.$(SOVERSION) $@

$(command): $(tools_obj) $(otlpa) $(liba)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ \
	    $$(pkg-config --libs libmicrohttpd jansson libprotobuf-c zlib)


# the module: nginx's own build does it, configured again when the addon's
# config or the list of files has changed

module_key = $(NGX_SRC) $(NGX_CONF_FLAGS) $(NGX_CC_OPT) $(NGX_LD_OPT) \
    $(module_src)

$(BUILD)/nginx/sources: FORCE
	@mkdir -p $(@D)
	@echo '$(module_key)' | cmp -s - $@ || echo '$(module_key)' > $@

$(BUILD)/nginx/Makefile: config docs/example/config t/modules/config $(proto) \
        $(BUILD)/nginx/sources $(wildcard $(NGX_SRC)/conf_flags)
	t/scripts/configure-nginx $(NGX_SRC) $(abspath $(@D)) dynamic \
	    --add-dynamic-module=$(abspath docs/example) \
	    --add-dynamic-module=$(abspath t/modules) \
	    --with-cc-opt='$(NGX_CC_OPT)' --with-ld-opt='$(NGX_LD_OPT)' \
	    $(NGX_CONF_FLAGS)

$(module): $(module_src)

$(BUILD)/ngx_http_trace_example_module.so: $(wildcard docs/example/*.c) \
    ngx_module/ngx_http_trace_api.h

$(BUILD)/ngx_http_trace_test_module.so: $(wildcard t/modules/*.c) \
    ngx_module/ngx_http_trace_api.h

$(BUILD)/ngx_http_trace%module.so: $(BUILD)/nginx/Makefile
	+$(MAKE) -C $(NGX_SRC) -f $(abspath $<) --no-print-directory \
	    $(abspath $(BUILD)/nginx/$(@F))
	install -m 755 $(BUILD)/nginx/$(@F) $@


# programs of the tests

$(BUILD)/unit/%: t/unit/%.c $(otlpa) $(liba) | $(proto_hdr)
	@mkdir -p $(@D)
	$(C99) $(LDFLAGS) -o $@ $< $(otlpa) $(liba) -lprotobuf-c

$(wiretap): t/lib/wiretap.c
	$(C99) $(LDFLAGS) -fPIC -shared -o $@ $< -ldl

$(BUILD)/bench/%: t/bench/%.c $(otlpa) $(liba) | $(proto_hdr)
	@mkdir -p $(@D)
	$(C99) $(LDFLAGS) -o $@ $< $(otlpa) $(liba) -lprotobuf-c

fuzz_cc := $(CLANG) -std=c99 -O1 -g -Ilib/include -I$(BUILD)/proto -MMD -MP \
    -fno-omit-frame-pointer -fno-sanitize-recover=all
fuzz_obj := $(lib_src:%.c=$(BUILD)/fuzz/obj/%.o) \
    $(otlp_src:%.c=$(BUILD)/fuzz/obj/%.o) \
    $(proto:proto/%.proto=$(BUILD)/fuzz/obj/proto/%.pb-c.o)

$(BUILD)/fuzz/obj/proto/%.o: $(BUILD)/proto/%.c | $(proto_hdr)
	@mkdir -p $(@D)
	$(fuzz_cc) -fsanitize=fuzzer-no-link,address,undefined -c -o $@ $<

$(BUILD)/fuzz/obj/%.o: %.c | $(proto_hdr)
	@mkdir -p $(@D)
	$(fuzz_cc) -fsanitize=fuzzer-no-link,address,undefined -c -o $@ $<

$(BUILD)/fuzz/%: t/fuzz/%.c $(fuzz_obj)
	$(fuzz_cc) -fsanitize=fuzzer,address,undefined -o $@ $< $(fuzz_obj) \
	    -lprotobuf-c

# nothing that was made on the way is removed
.SECONDARY:


# tasks

deps-build:
	@t/scripts/deps build

deps:
	@t/scripts/deps build test

# what is built depends on what deps installs, so deps comes first
demo: deps-build
	@$(MAKE) --no-print-directory -s build
	@docs/demo/run $(BUILD)

test: deps
	@$(MAKE) --no-print-directory -s build unit fuzz-programs
	@TEST_BUILD=$(abspath $(BUILD)) t/run $(if $(T),-v $(T),t/fuzz.t $(unit) \
	    $(filter-out t/fuzz.t,$(sort $(wildcard t/*.t))))

bench: deps
	@$(MAKE) --no-print-directory -s module $(test_modules) bench-programs
	@t/bench/run $(bench); calls=$$?; echo; \
	    TEST_BUILD=$(abspath $(BUILD)) t/bench/nginx && exit $$calls

fuzz: deps
	@$(MAKE) --no-print-directory -s fuzz-programs
	@TEST_BUILD=$(abspath $(BUILD)) FUZZ_SECONDS=$(SECONDS) t/run -v t/fuzz.t

interop: deps
	@$(MAKE) --no-print-directory -s build
	@for script in t/interop/*; do \
	    if [ -f $$script ] && [ -x $$script ]; then \
	        echo $$script; $$script || exit 1; \
	    fi; \
	done

check: deps
	@t/scripts/check

asan: deps
	@t/scripts/asan $(T)

install: build
	t/scripts/install "$(BUILD)" "$(VERSION)" "$(DESTDIR)" "$(PREFIX)" \
	    "$(LIBDIR)" "$(NGX_MODULES_PATH)"

uninstall:
	t/scripts/install --remove "$(VERSION)" "$(DESTDIR)" "$(PREFIX)" \
	    "$(LIBDIR)" "$(NGX_MODULES_PATH)"

clean:
	rm -rf $(BUILD)

FORCE:

-include $(shell [ -d $(BUILD) ] && find $(BUILD) -name '*.d')
