/* host.c - the program cnnlua: LuaJIT, the embedded Lua files and the engine in one executable.
 *
 * Contract. main hands its arguments, as the global `arg`, to the Lua module cnn.cli and exits with
 * the status that cli.main returns. `require` finds the embedded files (cnn_lua_files, made by the
 * build from lua/), or with CNNLUA_PATH=DIR those in DIR. The module cnn.host lets Lua say where
 * Ctrl-C may strike. Engine symbols are reached through the FFI, so the program is linked with its
 * symbols exported.
 *
 * Surprising: the first Ctrl-C is answered twice, by a flag that makes engine ops fail and by a
 * debug hook that raises an error in Lua code; whichever strikes first, host.guard takes back the
 * other one in C, before the next Lua instruction could run into it. One that comes more than a
 * second later, with the first still unanswered, ends the program. */
#include "core/cnn.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_FAILED = 1, EXIT_INTERRUPTED = 130 };

typedef struct {
    const char *name, *file, *text; /* "cnn.tensor", "lua/cnn/tensor.lua", what is in it */
    size_t length;
} lua_file;

extern const lua_file cnn_lua_files[]; /* ends with a NULL name */

/* ------------------------------------------------------------------------------ embedded files */

/* package.preload[name] of an embedded module: its file is the function's upvalue. */
static int load_embedded(lua_State *L) {
    const lua_file *f = lua_touserdata(L, lua_upvalueindex(1));
    const char *chunk = lua_pushfstring(L, "@%s", f->file);
    if (luaL_loadbuffer(L, f->text, f->length, chunk) != 0) return lua_error(L);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

/* Makes the embedded modules known to require, or the files of CNNLUA_PATH in their place, for who
 * edits them. The stack's top is the table `package`. */
static void install_modules(lua_State *L) {
    const char *path = getenv("CNNLUA_PATH");
    if (path && *path) {
        lua_getfield(L, -1, "path");
        lua_pushfstring(L, "%s/?.lua;%s", path, lua_tostring(L, -1));
        lua_setfield(L, -3, "path");
        lua_pop(L, 1);
        return;
    }
    lua_getfield(L, -1, "preload");
    for (const lua_file *f = cnn_lua_files; f->name; f++) {
        lua_pushlightuserdata(L, (void *)f);
        lua_pushcclosure(L, load_embedded, 1);
        lua_setfield(L, -2, f->name);
    }
    lua_pop(L, 1);
}

/* -------------------------------------------------------------------------------------- Ctrl-C */

static lua_State *main_state;
static volatile sig_atomic_t interrupts; /* since the last host.clear */
static volatile sig_atomic_t held;       /* between host.hold(true) and host.hold(false) */
static struct timespec first;            /* when the first of them came */

static void raise_interrupted(lua_State *L, lua_Debug *where) {
    (void)where;
    lua_sethook(L, NULL, 0, 0);
    lua_pushliteral(L, "interrupted");
    lua_error(L);
}

static void strike(void) {
    cnn_interrupt(1);
    lua_sethook(main_state, raise_interrupted, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

/* A key that bounces, or an impatient second press, must not cost a session with a trained net. */
static void on_sigint(int number) {
    (void)number;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (interrupts && now.tv_sec - first.tv_sec > 1) _exit(EXIT_INTERRUPTED);
    if (interrupts++) return;
    first = now;
    if (!held) strike();
}

/* host.hold(on): while held, the first Ctrl-C waits; giving it free raises what has waited. Returns
 * whether it was held. */
static int host_hold(lua_State *L) {
    int was = held;
    held = lua_toboolean(L, 1);
    if (!held && interrupts && !cnn_interrupted()) {
        cnn_interrupt(1);
        lua_pushliteral(L, "interrupted");
        return lua_error(L);
    }
    lua_pushboolean(L, was);
    return 1;
}

/* host.guard(f, ...): pcall; after a Ctrl-C the caller works on as after hold(true), undisturbed
 * (a later Ctrl-C still ends the program). It may have struck between a switch of cnn.no_grad's or
 * cnn.step's and its own pcall: gradients are on or off as they were, and no step is recorded. */
static int host_guard(lua_State *L) {
    int gradients = cnn_grad_enabled();
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    lua_sethook(L, NULL, 0, 0);
    if (interrupts) {
        held = 1;
        cnn_interrupt(0);
        cnn_set_grad_enabled(gradients);
        cnn_step_abandon();
    }
    lua_pushboolean(L, status == 0);
    lua_insert(L, 1);
    return lua_gettop(L);
}

/* host.interrupted(): true from a Ctrl-C to the next host.clear. */
static int host_interrupted(lua_State *L) {
    lua_pushboolean(L, interrupts > 0);
    return 1;
}

/* host.clear(held): back to the state without a Ctrl-C; with held = true the next one waits. */
static int host_clear(lua_State *L) {
    lua_sethook(L, NULL, 0, 0);
    held = lua_toboolean(L, 1);
    interrupts = 0;
    cnn_interrupt(0);
    return 0;
}

/* host.sources(): a table of the embedded files, "lua/cnn/tensor.lua" -> its text. */
static int host_sources(lua_State *L) {
    lua_newtable(L);
    for (const lua_file *f = cnn_lua_files; f->name; f++) {
        lua_pushlstring(L, f->text, f->length);
        lua_setfield(L, -2, f->file);
    }
    return 1;
}

static int open_host(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"hold", host_hold},   {"guard", host_guard},     {"interrupted", host_interrupted},
        {"clear", host_clear}, {"sources", host_sources}, {NULL, NULL},
    };
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}

/* ---------------------------------------------------------------------------------------- main */

static void set_arguments(lua_State *L, int argc, char **argv) {
    lua_createtable(L, argc, 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_setglobal(L, "arg");
}

/* The last resort: cli.main reports what goes wrong in it, this what goes wrong before. */
static int report(lua_State *L) {
    if (interrupts) return EXIT_INTERRUPTED;
    const char *message = lua_tostring(L, -1);
    if (!message) message = "an error that is no text";
    fprintf(stderr, "cnnlua: %.*s\n", (int)strcspn(message, "\n"), message);
    return EXIT_FAILED;
}

/* Runs protected: its stack is the arguments argc, argv. */
static int start(lua_State *L) {
    int argc = (int)lua_tointeger(L, 1);
    char **argv = lua_touserdata(L, 2);
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    install_modules(L);
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, open_host);
    lua_setfield(L, -2, "cnn.host");
    set_arguments(L, argc, argv);

    lua_getglobal(L, "require");
    lua_pushliteral(L, "cnn.cli");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    lua_getglobal(L, "arg");
    lua_call(L, 1, 1);
    return 1;
}

/* A standard stream that the parent closed: the first file to be opened would take its number, and
 * what is printed would end up in that file. */
static void open_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) _exit(EXIT_FAILED);
}

/* What was printed and did not arrive (a full disk) is a failure, too. */
static int close_output(int status) {
    int lost = fflush(stdout);
    if (!lost && !ferror(stdout)) return status;
    fprintf(stderr, "cnnlua: cannot write to the standard output%s%s\n", lost ? ": " : "",
            lost ? strerror(errno) : "");
    return status ? status : EXIT_FAILED;
}

int main(int argc, char **argv) {
    open_streams();
    lua_State *L = luaL_newstate();
    if (!L) {
        fputs("cnnlua: no memory for a Lua state\n", stderr);
        return EXIT_FAILED;
    }
    main_state = L;
    struct sigaction action = {.sa_handler = on_sigint};
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_DFL); /* `cnnlua ... | head` ends quietly, whatever the parent ignored */

    lua_pushcfunction(L, start);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    int status = lua_pcall(L, 2, 1, 0) == 0 ? (int)lua_tointeger(L, -1) : report(L);
    signal(SIGINT, SIG_DFL);
    lua_close(L);
    return close_output(status);
}
