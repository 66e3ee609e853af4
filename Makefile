# Makefile - builds, tests, checks and installs cnnlua. GNU make; gcc or clang.
#
# Everything made goes to $(B), "build" unless given: cnnlua, libcnn.so, objects, generated C.
# Settings on the command line: CC, OPT, CFLAGS, CPPFLAGS, LDFLAGS, PREFIX, DESTDIR, B.
#
# Surprising: the sources are found by wildcard. A new core/*.c or kernels/*.c is built without a
# line here, and the end of a kernel's name says for which instructions it is compiled.

B      = build
PREFIX = /usr/local
OPT    = -O3
CFLAGS = -g

LUAJIT_CFLAGS := $(or $(shell pkg-config --cflags luajit 2>/dev/null),-I/usr/include/luajit-2.1)
MACHINE       := $(shell $(CC) -dumpmachine 2>/dev/null)
X86           := $(filter x86_64%,$(MACHINE))

# Sums are rounded as they are written: contraction to fused multiply-adds is for the files that
# are compiled for such a unit, and the generic kernels stay the same oracle everywhere.
FLAGS = -std=gnu11 -Wall -Wextra -fPIC -pthread -ffp-contract=off $(OPT)
LIBS  = -lpng -lz -lpthread -ldl -lm

kernel_c := $(filter-out %_cudnn.c,$(wildcard kernels/*.c))
kernel_c := $(if $(X86),$(kernel_c),$(filter-out %_avx2.c %_avx512.c,$(kernel_c)))
core_c   := $(wildcard core/*.c)
host_c   := $(wildcard lua/*.c)
lua_src  := $(wildcard lua/*.lua lua/cnn/*.lua lua/cnn/*/*.lua)

engine_o := $(patsubst %.c,$(B)/%.o,$(core_c) $(kernel_c))
host_o   := $(patsubst %.c,$(B)/%.o,$(host_c)) $(B)/lua_files.o
objects  := $(engine_o) $(if $(host_c),$(host_o))

.DELETE_ON_ERROR:
.PHONY: all objects run test specs lint asan bench install clean force

all: $(B)/libcnn.so $(if $(host_c),$(B)/cnnlua)
objects: $(objects)

# -------------------------------------------------------------------------------------- objects

avx2   = -mavx2 -mfma -ffp-contract=fast
avx512 = -mavx512f -mavx512bw -mavx512dq -mavx512vl $(avx2)
$(B)/kernels/%_avx2.o: FLAGS += $(avx2)
$(B)/kernels/%_avx512.o: FLAGS += $(avx512)
$(B)/lua/%.o: FLAGS += -I. $(LUAJIT_CFLAGS)

$(objects): | $(B)/.ready

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The compiler does not see what the assembler includes.
$(B)/core/header.o: core/cnn.h
$(B)/lua_files.o: $(B)/lua_files.c $(lua_src)
	$(CC) $(FLAGS) $(CFLAGS) -c -o $@ $<

$(B)/lua_files.c: force | $(B)/.ready
	@scripts/embed $(lua_src) >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# One line that says what to install, instead of the first missing header.
$(B)/.ready:
	@CC='$(CC)' scripts/setup --check build
	@mkdir -p $(B) && touch $@

-include $(objects:.o=.d)

# --------------------------------------------------------------------------- program and library

# Only cnn_* is seen from outside: by Lua through ffi, by C programs. A program that closes the
# library as it ends would take away the code that its threads still run, so it stays (nodelete).
$(B)/exports.map: | $(B)/.ready
	@echo '{ global: cnn_*; local: *; };' >$@
$(B)/exports.list: | $(B)/.ready
	@echo '{ cnn_*; };' >$@

$(B)/libcnn.so: $(engine_o) $(B)/exports.map
	$(CC) -shared -pthread $(CFLAGS) $(LDFLAGS) -Wl,--version-script=$(B)/exports.map \
		-Wl,-soname,libcnn.so -Wl,-z,nodelete -o $@ $(engine_o) $(LIBS)

$(B)/cnnlua: $(engine_o) $(host_o) $(B)/exports.list
	$(CC) -pthread $(CFLAGS) $(LDFLAGS) -Wl,--dynamic-list=$(B)/exports.list \
		-o $@ $(engine_o) $(host_o) -lluajit-5.1 $(LIBS)

# --------------------------------------------------------------------------------- run and check

run:
	@scripts/run

test:
	@CC='$(CC)' scripts/setup build run test
	@$(MAKE) --no-print-directory specs

# The specs run under the stock luajit with libcnn.so; those of the command line start $CNNLUA.
SPECS = spec
LUA   = luajit
specs: all
	@CNNLUA='$(abspath $(B))/cnnlua' CNN_LIB='$(abspath $(B))/libcnn.so' LUA_PATH='lua/?.lua;;' \
		scripts/with-terminals busted --lua='$(LUA)' --output=spec/report.lua $(SPECS)

# The same specs inside the program, with every object compiled for AddressSanitizer and UBSan.
# Leaks are not looked for: what Lua's own heap holds looks leaked from outside.
asan_flags = -g -fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=undefined
asan:
	@ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
		$(MAKE) --no-print-directory B=build/asan OPT=-O1 CFLAGS='$(asan_flags)' \
		LUA=build/asan/cnnlua specs

lint:
	@CC='$(CC)' scripts/lint

bench: all
	@scripts/bench

# ---------------------------------------------------------------------------------------- install

share     = $(DESTDIR)$(PREFIX)/share
lua_rooms = $(sort $(patsubst %/,%,$(dir $(filter lua/cnn/%,$(lua_src)))))
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/include
	install -d $(addprefix $(share)/,lua/5.1 $(lua_rooms:lua/%=lua/5.1/%) cnnlua/models)
	install $(B)/cnnlua $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(B)/libcnn.so $(DESTDIR)$(PREFIX)/lib
	install -m 644 core/cnn.h $(DESTDIR)$(PREFIX)/include
	install -m 644 $(wildcard lua/*.lua) $(share)/lua/5.1
	$(foreach room,$(lua_rooms),install -m 644 $(wildcard $(room)/*.lua) \
		$(share)/$(room:lua/%=lua/5.1/%) &&) true
	install -m 644 $(wildcard models/*.lua) $(share)/cnnlua/models

clean:
	rm -rf $(B)
