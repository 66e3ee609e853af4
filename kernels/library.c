/* library.c - where NVIDIA's libraries are looked for; library.h says in which order.
 *
 * Surprising: a wheel's library finds its neighbours by its own run path ($ORIGIN/../..), so to
 * open it by its full name is enough; no environment variable is touched. */
#define _GNU_SOURCE /* dlinfo */
#include "library.h"

#include <ctype.h>
#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 64, PATH = 1024, LIBRARIES = 8 };

/* A library that was asked for. */
typedef struct {
    char name[NAME];
    void *handle;       /* NULL: not to be had */
    char why[PATH * 2]; /* where it is, or why it is not */
} library;

/* Where to look, as patterns: an environment variable or NULL, what follows its value, and whether
 * NVIDIA's wheels put libraries below it. */
static const struct {
    const char *variable, *folder;
    int wheels;
} places[] = {
    {"CUDA_HOME", "/lib64", 0},
    {NULL, "/usr/local/cuda/lib64", 0},
    {NULL, "/usr/lib/x86_64-linux-gnu", 0},
    {"VIRTUAL_ENV", "/lib/python3*/site-packages", 1},
    {"CONDA_PREFIX", "/lib/python3*/site-packages", 1},
    {"HOME", "/.local/lib/python3*/site-packages", 1},
    {NULL, "/usr/local/lib/python3*/site-packages", 1},
    {NULL, "/usr/local/lib/python3*/dist-packages", 1},
    {NULL, "/usr/lib/python3*/site-packages", 1},
    {NULL, "/usr/lib/python3*/dist-packages", 1},
};
enum { PLACES = sizeof places / sizeof *places };

/* Below site-packages: a wheel of its own up to CUDA 12, one for most libraries since 13. */
static const char *const wheel_folders[] = {"/nvidia/%s/lib", "/nvidia/cu[0-9]*/lib"};

/* `who` named that path: it begins the reason, if there is one to give. */
static int open_file(library *l, const char *who, const char *path) {
    l->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!l->handle) {
        const char *error = dlerror();
        snprintf(l->why, sizeof l->why, "%s%s", who, error ? error : path);
    }
    return l->handle != NULL;
}

/* Opens the first file of that pattern that can be opened. One that is there and cannot leaves its
 * reason in `why`. */
static int open_first(library *l, const char *pattern) {
    glob_t found;
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && !l->handle; i++)
            open_file(l, "", found.gl_pathv[i]);
    globfree(&found);
    return l->handle != NULL;
}

static int open_in(library *l, const char *name, const char *wheel, const char *root,
                   const char *folder, int wheels) {
    char pattern[PATH], below[NAME] = "";
    for (int i = 0; i < (wheels ? 2 : 1); i++) {
        if (wheels) snprintf(below, sizeof below, wheel_folders[i], wheel);
        int n = snprintf(pattern, sizeof pattern, "%s%s%s/%s", root, folder, below, name);
        if (n < (int)sizeof pattern && open_first(l, pattern)) return 1;
    }
    return 0;
}

static void find(library *l, const char *name, const char *wheel) {
    char variable[NAME] = "CNN_";
    for (size_t i = 0, n = strlen(variable); wheel[i] && n + 1 < sizeof variable; i++)
        variable[n++] = (char)toupper((unsigned char)wheel[i]);
    const char *file = getenv(variable);
    if (file && *file) {
        char who[NAME + 2];
        snprintf(who, sizeof who, "%s: ", variable);
        open_file(l, who, file);
        return;
    }
    if (open_file(l, "", name)) return;
    l->why[0] = 0; /* that it is not in the loader's path is no reason to show */
    for (int i = 0; i < PLACES; i++) {
        const char *root = places[i].variable ? getenv(places[i].variable) : "";
        if (!root || (places[i].variable && !*root)) continue;
        if (open_in(l, name, wheel, root, places[i].folder, places[i].wheels)) return;
    }
    if (!l->why[0])
        snprintf(l->why, sizeof l->why,
                 "%s is neither in the loader's path nor where CUDA, Debian or Python's wheels "
                 "put it; install it, or name the file in %s",
                 name, variable);
}

/* The file that the loader took for it: of a bare name it alone knows. */
static void say_where(library *l) {
    struct link_map *map = NULL;
    int known = dlinfo(l->handle, RTLD_DI_LINKMAP, &map) == 0 && map;
    const char *file = known && map->l_name[0] ? map->l_name : l->name;
    size_t n = strlen(file);
    if (n >= sizeof l->why) n = sizeof l->why - 1;
    memcpy(l->why, file, n);
    l->why[n] = 0;
}

void *k_library(const char *name, const char *wheel, const char **why) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static library libraries[LIBRARIES];
    static int count;
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < count && strcmp(libraries[i].name, name)) i++;
    library *l = i < LIBRARIES ? &libraries[i] : NULL;
    if (l && i == count) {
        count++;
        snprintf(l->name, sizeof l->name, "%s", name);
        find(l, name, wheel);
        if (l->handle) say_where(l);
    }
    pthread_mutex_unlock(&lock);
    if (why) *why = l ? l->why : "too many libraries were asked for";
    return l ? l->handle : NULL;
}
