// Makes a disk slow: while the file `slow` is in $DEVPLANE_TEST_RECORDINGS, each write to a regular file takes as many milliseconds longer as it says.
// Preloaded (LD_PRELOAD) into a process whose writes go through the C library.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static long milliseconds(void) {
  char path[4096];
  const char *directory = getenv("DEVPLANE_TEST_RECORDINGS");
  if (!directory || snprintf(path, sizeof path, "%s/slow", directory) >= (int)sizeof path) return 0;
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  long value = 0;
  if (fscanf(file, "%ld", &value) != 1) value = 0;
  fclose(file);
  return value;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  static ssize_t (*next)(int, const void *, size_t);
  if (!next) next = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
  struct stat status;
  if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
    long wait = milliseconds();
    struct timespec time = {wait / 1000, wait % 1000 * 1000000};
    if (wait > 0) nanosleep(&time, NULL);
  }
  return next(fd, bytes, length);
}
