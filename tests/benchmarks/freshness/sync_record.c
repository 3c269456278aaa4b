/* Preloaded into a server and all that it starts: writes down, for each fsync and fdatasync that returned without an
 * error, which file it was of, how long that was WHEN THE CALL BEGAN (what came during it may not be on the disk), and
 * when the call began and ended. One line a call, in one write, so that processes and threads can share the record:
 *
 *     device inode size_bytes began_ns ended_ns pid
 *
 * sync_file_range is left alone: it brings neither a file's length nor a disk's cache down, so nothing may count on it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef int (*sync_call)(int);

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int recorded(sync_call call, int descriptor) {
    struct stat before;
    int known = fstat(descriptor, &before) == 0;
    long long began_ns = now_ns();
    int result = call(descriptor);
    if (result != 0 || !known) return result;
    int saved = errno;
    const char *path = getenv("SYNC_RECORD");
    int record = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (record >= 0) {
        char line[160];
        int length = snprintf(line, sizeof line, "%llu %llu %lld %lld %lld %d\n", (unsigned long long)before.st_dev,
                              (unsigned long long)before.st_ino, (long long)before.st_size, began_ns, now_ns(),
                              (int)getpid());
        if (write(record, line, length) != length) abort(); /* a record that is not whole would lie */
        close(record);
    }
    errno = saved;
    return result;
}

int fsync(int descriptor) {
    static sync_call call;
    if (!call) call = (sync_call)dlsym(RTLD_NEXT, "fsync");
    return recorded(call, descriptor);
}

int fdatasync(int descriptor) {
    static sync_call call;
    if (!call) call = (sync_call)dlsym(RTLD_NEXT, "fdatasync");
    return recorded(call, descriptor);
}
