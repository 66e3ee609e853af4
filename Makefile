# Makefile - builds, tests, checks and installs cnnlua. GNU make; gcc or clang.
#
# Everything made goes to $(B), "build" unless given: cnnlua, libcnn.so, libcnn_cuda.so where nvcc
# is found, objects, generated C.
# Settings on the command line: CC, CXX, OPT, CFLAGS, CPPFLAGS, LDFLAGS, PREFIX, DESTDIR, B;
# CUDA=0: no libcnn_cuda.so; CUDA_HOME: whose nvcc; CUDA_ARCH="90": for these cards alone.
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

cuda_c   := $(wildcard kernels/*_cudnn.c kernels/*_cublas.c kernels/library.c)
cuda_cu  := $(wildcard kernels/*_cuda.cu)
kernel_c := $(filter-out $(cuda_c),$(wildcard kernels/*.c))
kernel_c := $(if $(X86),$(kernel_c),$(filter-out %_avx2.c %_avx512.c %_avx512bf16.c,$(kernel_c)))
core_c   := $(wildcard core/*.c)
host_c   := $(wildcard lua/*.c)
lua_src  := $(wildcard lua/*.lua lua/cnn/*.lua lua/cnn/*/*.lua)

# What scripts/cuda finds is written down in cuda.mk, when it changes. That is done here, before
# any rule, since the rules depend on it; goals that build nothing, or by another make, do without.
CUDA = 1
idle = clean lint run test asan
ifneq ($(CUDA),0)
ifneq ($(filter-out $(idle),$(or $(MAKECMDGOALS),all)),)
$(shell CUDA_HOME='$(CUDA_HOME)' CUDA_ARCH='$(CUDA_ARCH)' scripts/cuda $(B)/cuda.mk)
include $(B)/cuda.mk
endif
endif
cuda_c := $(if $(CUDNN_INC),$(cuda_c),$(filter-out %_cudnn.c,$(cuda_c)))
cuda_c := $(if $(CUBLAS_INC),$(cuda_c),$(filter-out %_cublas.c,$(cuda_c)))
cuda   := $(if $(NVCC),$(B)/libcnn_cuda.so)

engine_o := $(patsubst %.c,$(B)/%.o,$(core_c) $(kernel_c))
host_o   := $(patsubst %.c,$(B)/%.o,$(host_c)) $(B)/lua_files.o
cuda_o   := $(patsubst %.c,$(B)/%.o,$(cuda_c))
card_o   := $(patsubst %.cu,$(B)/card/%.o,$(cuda_cu))
double_o := $(patsubst %.cu,$(B)/double/%.o,$(cuda_cu))
objects  := $(engine_o) $(if $(host_c),$(host_o)) $(cuda_o) $(double_o)

.DELETE_ON_ERROR:
.PHONY: all objects run test specs lint asan bench gpu-check gpu-bundle install clean force no_cuda

all: $(B)/libcnn.so $(if $(host_c),$(B)/cnnlua) $(or $(cuda),no_cuda)
objects: $(objects)

# -------------------------------------------------------------------------------------- objects

avx2   = -mavx2 -mfma -ffp-contract=fast
avx512 = -mavx512f -mavx512bw -mavx512dq -mavx512vl $(avx2)
$(B)/kernels/%_avx2.o: FLAGS += $(avx2)
$(B)/kernels/%_avx512.o: FLAGS += $(avx512)
$(B)/kernels/%_avx512bf16.o: FLAGS += $(avx512) -mavx512bf16
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

-include $(objects:.o=.d) $(card_o:.o=.d)

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

$(B)/cnnlua $(B)/bundle/cnnlua: $(engine_o) $(host_o) $(B)/exports.list
	@mkdir -p $(@D)
	$(CC) -pthread $(CFLAGS) $(LDFLAGS) -Wl,--dynamic-list=$(B)/exports.list \
		-o $@ $(engine_o) $(host_o) -lluajit-5.1 $(LIBS)

# ------------------------------------------------------------------------------------ CUDA device

# Opened at run time, so one program serves machines with and without a card. CUDA's runtime is
# linked into it, cuBLAS and cuDNN are opened when they are there. One name is seen from outside.
$(B)/cuda.map: | $(B)/.ready
	@echo '{ global: cnn_cuda_device; local: *; };' >$@

$(B)/libcnn_cuda.so: $(card_o) $(cuda_o) $(B)/cuda.map
	$(CC) -shared -pthread $(CFLAGS) $(LDFLAGS) -Wl,--version-script=$(B)/cuda.map -Wl,-z,defs \
		-o $@ $(card_o) $(cuda_o) -L$(CUDA_LIB) -lcudart_static -lrt -lpthread -ldl -lm

# One that an earlier make left behind would still be opened.
no_cuda:
	@rm -f $(B)/libcnn_cuda.so

without = $(if $(CUDNN_INC),,-DCNN_NO_CUDNN) $(if $(CUBLAS_INC),,-DCNN_NO_CUBLAS)
$(cuda_o): FLAGS += $(foreach d,$(sort $(CUDA_INC) $(CUDNN_INC) $(CUBLAS_INC)),-isystem $d)
$(cuda_o) $(card_o): $(wildcard $(B)/cuda.mk)
$(card_o): | $(B)/.ready
$(B)/card/kernels/device_cuda.o: NVFLAGS += $(without)

# PTX of the oldest, made into machine code for each and kept for cards that are still to come: PTX
# for each would take twice the time and gain nothing, but that cards before 8.0 have no instruction
# for bf16, so they get PTX of their own. Without exceptions and guards of static variables (one
# thread launches) nothing of libstdc++ is needed.
comma  := ,
list    = $(subst $() ,$(comma),$(strip $1))
first   = compute_$(firstword $1)
code_of = $(if $1,-gencode 'arch=$(first)$(comma)code=[$(call list,$2 $(1:%=sm_%))]')
older   = $(filter 7%,$(CUDA_ARCHS))
newer   = $(filter-out 7%,$(CUDA_ARCHS))
kept    = $(firstword $(newer) $(older))
lean    = -fno-exceptions -fno-rtti -fno-threadsafe-statics
NVFLAGS = -std=c++17 -ccbin $(CUDA_CXX) -isystem $(CUDA_INC) -Xfatbin -compress-all --threads 2 \
	$(call code_of,$(older),$(if $(newer),,compute_$(kept))) \
	$(call code_of,$(newer),compute_$(kept)) \
	-Xcompiler '-fPIC -Wall -Wextra -ffp-contract=off $(lean) $(OPT) $(CFLAGS)'
$(B)/card/%.o: %.cu Makefile
	@mkdir -p $(@D)
	$(NVCC) $(NVFLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

# The same files for the host, where the specs run every kernel without a card.
double_flags = $(subst -std=gnu11,-std=c++17,$(FLAGS)) -DCNN_HOST_CARD \
	-DCNN_NO_CUDNN -DCNN_NO_CUBLAS
$(B)/double/%.o: %.cu Makefile
	@mkdir -p $(@D)
	$(CXX) $(double_flags) $(CPPFLAGS) $(CFLAGS) -MMD -MP -x c++ -c -o $@ $<

$(B)/libcnn_cuda_host.so: $(double_o) $(B)/cuda.map
	$(CXX) -shared -pthread $(CFLAGS) $(LDFLAGS) -Wl,--version-script=$(B)/cuda.map -o $@ $(double_o)

# --------------------------------------------------------------------------------- run and check

run:
	@scripts/run

test:
	@CC='$(CC)' CXX='$(CXX)' scripts/setup build run test
	@$(MAKE) --no-print-directory specs

# The specs run under the stock luajit with libcnn.so; those of the command line start $CNNLUA.
# CNN_CUDA_BUILT is libcnn_cuda.so, or nothing where it was not to be built.
SPECS = spec
LUA   = luajit
specs: all $(B)/libcnn_cuda_host.so
	@CNNLUA='$(abspath $(B))/cnnlua' CNN_LIB='$(abspath $(B))/libcnn.so' LUA_PATH='lua/?.lua;;' \
		CNN_CUDA_HOST_LIB='$(abspath $(B))/libcnn_cuda_host.so' CNN_CUDA_BUILT='$(abspath $(cuda))' \
		scripts/with-terminals busted --lua='$(LUA)' --output=spec/report.lua $(SPECS)

# The same specs inside the program, with every object compiled for AddressSanitizer and UBSan.
# Leaks are not looked for: what Lua's own heap holds looks leaked from outside.
asan_flags = -g -fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=undefined
asan:
	@ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
		$(MAKE) --no-print-directory B=build/asan CUDA=0 OPT=-O1 CFLAGS='$(asan_flags)' \
		LUA=build/asan/cnnlua specs

lint:
	@CC='$(CC)' CXX='$(CXX)' scripts/lint

bench: all
	@scripts/bench

# What a GPU shows, in one command; and the same in one file, for a machine that has a card's driver
# and nothing else. The program in it finds its libraries beside it.
gpu-check: all
	@B='$(B)' scripts/gpu-check

$(B)/bundle/cnnlua: LDFLAGS += -Wl,-rpath,'$$ORIGIN/../lib'
gpu-bundle: all $(B)/bundle/cnnlua $(B)/libcnn_cuda_host.so
	@B='$(B)' scripts/gpu-bundle

# ---------------------------------------------------------------------------------------- install

share     = $(DESTDIR)$(PREFIX)/share
lua_rooms = $(sort $(patsubst %/,%,$(dir $(filter lua/cnn/%,$(lua_src)))))
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/include
	install -d $(addprefix $(share)/,lua/5.1 $(lua_rooms:lua/%=lua/5.1/%) cnnlua/models)
	install $(B)/cnnlua $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(B)/libcnn.so $(cuda) $(DESTDIR)$(PREFIX)/lib
	install -m 644 core/cnn.h $(DESTDIR)$(PREFIX)/include
	install -m 644 $(wildcard lua/*.lua) $(share)/lua/5.1
	$(foreach room,$(lua_rooms),install -m 644 $(wildcard $(room)/*.lua) \
		$(share)/$(room:lua/%=lua/5.1/%) &&) true
	install -m 644 $(wildcard models/*.lua) $(share)/cnnlua/models

clean:
	rm -rf $(B)
