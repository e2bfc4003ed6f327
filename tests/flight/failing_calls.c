/* Preloaded before libc: one call on a file fails, or all from it on, or the process is killed there.

   Of the environment: FAIL_UNDER, a part of the paths that are watched; FAIL_CALL, which call (open to write, mkdir,
   write, fsync, rename, unlink); FAIL_AT, which of those (from 1; 0: none, they are counted); FAIL_WITH, an errno, or 0
   to be killed; FAIL_FOR_EVER, after that every watched call fails; FAIL_LOG, a file for the number of such calls. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *under, *watched, *counted_in;
static int at, with, for_ever;
static atomic_int count, struck;

static int number(const char *name) { const char *text = getenv(name); return text ? atoi(text) : 0; }

__attribute__((constructor)) static void begin(void) {
  under = getenv("FAIL_UNDER"), watched = getenv("FAIL_CALL"), counted_in = getenv("FAIL_LOG");
  at = number("FAIL_AT"), with = number("FAIL_WITH"), for_ever = number("FAIL_FOR_EVER");
}

__attribute__((destructor)) static void end(void) {
  FILE *log = counted_in ? fopen(counted_in, "w") : NULL;
  if (log) fprintf(log, "%d", count), fclose(log);
}

static int fails(const char *call, const char *path) {
  if (!under || !watched || !strstr(path, under)) return 0;
  if (!(for_ever && struck)) {
    if (strcmp(call, watched) || ++count != at) return 0;
    struck = 1;
    if (!with) kill(getpid(), SIGKILL), pause();
  }
  errno = with;
  return 1;
}

static int path_fails(const char *call, int folder, const char *path) {
  char whole[2 * PATH_MAX] = "", link[64];
  if (*path != '/') {
    if (folder == AT_FDCWD) {
      if (!getcwd(whole, PATH_MAX)) *whole = 0;
    } else {
      snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
      ssize_t length = readlink(link, whole, PATH_MAX - 1);
      whole[length > 0 ? length : 0] = 0;
    }
    strcat(whole, "/");
  }
  strncat(whole, path, PATH_MAX - 1);
  return fails(call, whole);
}

static int file_fails(const char *call, int file) {
  char path[PATH_MAX], link[64];
  if (file < 3) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  path[length > 0 ? length : 0] = 0;
  return fails(call, path);
}

/* A function of libc's name, which asks first whether it fails. */
#define CALL(name, result, types, arguments, failing) \
  result name types { \
    static result(*real) types; \
    if (!real) real = dlsym(RTLD_NEXT, #name); \
    if (failing) return -1; \
    return real arguments; \
  }
#define OF_FILE(name, result, call, types, arguments) CALL(name, result, types, arguments, file_fails(call, file))
#define OF_PATH(name, call, folder, types, arguments) CALL(name, int, types, arguments, path_fails(call, folder, path))
#define OPENS(name, folder, types, arguments) \
  int name types { \
    static int(*real) types; \
    va_list rest; \
    if (!real) real = dlsym(RTLD_NEXT, #name); \
    va_start(rest, flags); \
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; \
    va_end(rest); \
    if ((flags & O_CREAT) && path_fails("open", folder, path)) return -1; \
    return real arguments; \
  }

OF_FILE(fsync, int, "fsync", (int file), (file))
OF_FILE(fdatasync, int, "fsync", (int file), (file))
OF_FILE(write, ssize_t, "write", (int file, const void *data, size_t size), (file, data, size))
OF_FILE(pwrite64, ssize_t, "write", (int file, const void *data, size_t size, off64_t to), (file, data, size, to))
OF_FILE(writev, ssize_t, "write", (int file, const struct iovec *data, int size), (file, data, size))
OF_PATH(mkdir, "mkdir", AT_FDCWD, (const char *path, mode_t mode), (path, mode))
OF_PATH(mkdirat, "mkdir", in, (int in, const char *path, mode_t mode), (in, path, mode))
OF_PATH(rename, "rename", AT_FDCWD, (const char *from, const char *path), (from, path))
OF_PATH(renameat, "rename", in, (int of, const char *from, int in, const char *path), (of, from, in, path))
OF_PATH(unlink, "unlink", AT_FDCWD, (const char *path), (path))
OF_PATH(unlinkat, "unlink", in, (int in, const char *path, int flags), (in, path, flags))
OF_PATH(rmdir, "unlink", AT_FDCWD, (const char *path), (path))
OPENS(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPENS(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPENS(openat, in, (int in, const char *path, int flags, ...), (in, path, flags, mode))
OPENS(openat64, in, (int in, const char *path, int flags, ...), (in, path, flags, mode))
